"""From an instance of the original, or of any network on the way, to the saved one: the plans that are left."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from secateur.spec import Plan
from secateur.structure import named_tensors
from secateur.structure.freeze import fingerprint
from secateur.surgery import shrink_


def replay_(model: nn.Module, plans: Sequence[Plan]) -> nn.Module:
    """Apply the plans that the instance has not been through; returns it.

    The first one that was made for its tensors tells where it stands; all are tried where none was, so that the error
    says what differs. Raises PlanError.
    """
    stands = fingerprint(named_tensors(model))
    made_for = [plan.structure.fingerprint for plan in plans]
    for plan in plans[made_for.index(stands) if stands in made_for else 0 :]:
        shrink_(model, plan)
    return model
