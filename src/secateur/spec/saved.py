"""What lies in a saved folder, for those who write, load or only read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from secateur.spec.plan import Plan
from secateur.spec.record import Record

PLAN, RUN, MANIFEST, MASKS, RECIPE = "plan.json", "run.json", "manifest.json", "masks.safetensors", "recipe.yaml"
MASKS_HEADER, MASKS_VERSION = "secateur-masks", 1
"""In the metadata of the file of masks: a JSON object with `schema_version`, `pattern`, `made_by` and `shapes`. The
tensors are the masks by name, a bit a weight (numpy.packbits)."""

Layout = Literal["secateur", "transformers"]
"""How weights lie: under Secateur's own names, or as transformers writes them."""


@dataclass(frozen=True)
class Plans(Record):
    """The plans that lead from the original model to the saved one, in order; none for one that was only trained."""

    plans: tuple[Plan, ...] = ()
    schema_version: int = 1


@dataclass(frozen=True)
class Manifest(Record):
    """What the folder holds."""

    model: str
    """Qualified name of the model's class."""
    fingerprint: str
    """Of the saved model's tensors."""
    sha256: Mapping[str, str]
    size_bytes: Mapping[str, int]
    source: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """How to build the original again (`name` and options); empty when only the caller can. `hf:FILE` with a file of
    the folder means that file."""
    layout: Layout = "secateur"
    schema_version: int = 1
