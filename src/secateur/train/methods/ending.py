"""What a network that was trained with methods ends with: their zeros for good, or fewer channels, and the proof."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from secateur.hugging_face import config_of, describe, is_transformers_model
from secateur.sparse import WeightConfig, prune_weights
from secateur.sparse.masks import Masks, add_masks_
from secateur.spec import BudgetError, Plan, Verification
from secateur.store import inherit, remember_cut
from secateur.structure import clone
from secateur.structure.capture import Inputs, normalise_inputs
from secateur.surgery import shrink, verify
from secateur.train.config import TrainConfig
from secateur.train.methods.named import Made
from secateur.train.methods.targets import Weights


@dataclass(frozen=True)
class Ended:
    """The network, and the proof where something went."""

    model: nn.Module
    verification: Verification | None = None


def demand_one_end(made: Sequence[Made], config: TrainConfig) -> None:
    """Raise BudgetError, before training, where two methods decide what goes, or the run would end with weights from
    before it went."""
    deciding = [type(one.method).__name__ for one in made if one.decides]
    if len(deciding) > 1:
        raise BudgetError(f"{' and '.join(deciding)} both decide what goes; give one of them, beside regularisers")
    if deciding and config.early_stopping is not None:
        raise BudgetError(f"early stopping goes back to an epoch before {deciding[0]} was done; drop it, or the method")


def end(model: nn.Module, example_inputs: Any, made: Sequence[Made]) -> Ended:
    """Finish the methods, and make what they decided permanent, in a copy; a model of which nothing goes is returned
    itself. Zeros are remembered as masks, a cut in the history."""
    inputs = normalise_inputs(example_inputs)
    for one in made:
        finish = getattr(one.method, "finish", None)
        if finish is not None:
            finish()
    for one in made:
        if one.plan is not None:
            return _cut(model, inputs, one.plan())
        if one.zeros is not None:
            return _zeroed(model, inputs, one.zeros)
        if one.masks is not None:
            return _masked(model, one.masks())
    return Ended(model)


def _cut(model: nn.Module, inputs: Inputs, plan: Plan) -> Ended:
    small = shrink(model, plan)
    proof = verify(model, small, plan, inputs)
    remember_cut(small, model, plan)
    if is_transformers_model(model):
        describe(small, config_of(model), exact=False)
    return Ended(small, proof)


def _zeroed(model: nn.Module, inputs: Inputs, target: Weights) -> Ended:
    """By magnitude, which takes the zeros that a schedule holds before all others."""
    config = WeightConfig(target.pattern, allocator=target.allocator)
    made = prune_weights(model, inputs, sparsity=target.share if target.rises else None, config=config)
    inherit(made.model, model)
    return Ended(made.model, made.verification)


def _masked(model: nn.Module, masks: Masks) -> Ended:
    """These zeros, and those that the model had."""
    small = clone(model)
    inherit(small, model)
    add_masks_(small, model, {name: mask for name, mask in masks.items() if not bool(mask.all())}, "crossings")
    return Ended(small)
