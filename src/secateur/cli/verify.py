"""`secateur verify`: is a saved folder what it says?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from secateur.cli.options import ModelOptions
from secateur.cli.outcome import Outcome
from secateur.cli.prune import as_record

if TYPE_CHECKING:
    from torch import nn

    from secateur.cli.opening import Target
    from secateur.spec import Plan, Verification


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Options of `verify`."""

    original: Annotated[
        str | None, Option(metavar="MODEL", help="The model before the cut, with its --weights, or its saved folder.")
    ] = None


def run(options: Options) -> Outcome:
    """Check that a saved folder or container is what it says; with the --original, make the cut again and prove it."""
    from secateur.cli.opening import look_up
    from secateur.sparse import UPDATING, masks_of, sparsity
    from secateur.spec import StoreError
    from secateur.store import history_of, read_run

    if options.weights is not None and options.original is None:
        raise StoreError("verify takes --weights for the --original alone; name the model before the cut, too")
    target = look_up(replace(options, weights=None))
    if target.folder is None:
        raise StoreError(f"verify checks a folder that Secateur saved, or a container, got {target.name}")
    opened = target.build()
    plans = history_of(opened.model)
    predicted, counted = _param_counts(opened.model, plans)
    record: dict[str, Any] = {"hashes": True, "predicted_param_count": predicted, "param_count": counted}
    lines = ["hashes agree", f"parameters: {counted:,}, predicted {predicted:,}"]
    ok = predicted == counted
    if masks_of(opened.model) is not None:
        record["sparsity"] = sparsity(opened.model)
        lines.append(f"sparsity: {record['sparsity']:.4f}, zeros are where the masks say")
    if options.original is not None:
        factory = options.factory if Path(options.original).exists() else None
        original = look_up(replace(options, model=options.original, factory=factory))
        proof, same = _replayed(original, opened.model, plans)
        masks = masks_of(opened.model)
        updated = masks is not None and masks.made_by.get("criterion") in UPDATING
        made = read_run(target.folder)
        retrained = updated or made.verb != "prune" or bool(made.stages)
        ok = ok and proof.ok and (same or retrained)
        record |= {"verification": as_record(proof), "weights_equal": same}
        lines.append(f"cut again: differs from the reference by {proof.relative_diff:.1e} of the output's scale")
        lines.append(f"weights: {'those of the cut, bit for bit' if same else _changed(retrained=retrained)}")
    lines.append("verified" if ok else "NOT VERIFIED")
    return Outcome({**record, "ok": ok}, "\n".join(lines), verified=ok)


def _param_counts(model: nn.Module, plans: tuple[Plan, ...]) -> tuple[int, int]:
    """Parameters that the last plan predicts, and those that the model has."""
    from secateur.cost import CostModel

    counted = sum(parameter.numel() for parameter in model.parameters())
    if not plans:
        return counted, counted
    return CostModel(plans[-1].structure, "params").at(plans[-1].sizes), counted


def _replayed(original: Target, saved: nn.Module, plans: tuple[Plan, ...]) -> tuple[Verification, bool]:
    """Cut the original again: the worst difference from the reference, and whether the weights are the saved ones."""
    import torch

    from secateur.sparse import apply_masks_, as_tensors, masks_of, verify_masks
    from secateur.spec import StoreError
    from secateur.store import history_of
    from secateur.structure import clone
    from secateur.structure.capture import normalise_inputs
    from secateur.surgery import shrink, verify

    opened = original.build()
    model, proofs = opened.model, []
    for plan in plans[len(history_of(model)) :]:
        small = shrink(model, plan)
        proofs.append(verify(model, small, plan, opened.inputs))
        model = small
    masks = masks_of(saved)
    if masks is not None:
        sparse = apply_masks_(clone(model), as_tensors(masks))
        proofs.append(verify_masks(model, sparse, as_tensors(masks), normalise_inputs(opened.inputs)))
        model = sparse
    if not proofs:
        raise StoreError("the folder holds no cut that the original does not have; give the model before the cut")
    found, expected = model.state_dict(), saved.state_dict()
    same = found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)
    return max(proofs, key=lambda proof: proof.relative_diff), same


def _changed(*, retrained: bool) -> str:
    return "changed since, by training, healing or what pruned them" if retrained else "NOT those of the cut"
