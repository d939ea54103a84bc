"""`secateur prune`: a physically smaller network within a budget, or one with zeros, with its proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from secateur.cli.options import CutOptions, DataOptions, ModelOptions, OutOptions, number_or_name
from secateur.cli.outcome import Outcome
from secateur.cli.tables import before_and_after

if TYPE_CHECKING:
    import torch
    from torch import nn

    from secateur.cli.opening import Opened, Target
    from secateur.data import ImageSet, TextSet
    from secateur.pipeline import PruneResult
    from secateur.spec import Verification

CALIBRATION_IMAGES, CALIBRATION_SEQUENCES = 1024, 128
"""When `--calibration` is not given; fewer sequences where the text has no more."""
IMAGES_AT_ONCE, TOKENS_AT_ONCE = 128, 4096
"""A batch of calibration data."""
SHARED = ("adaptive", "fixed", "threshold", "sigma")
"""Allocators that read `--share`; all but the first are for single weights."""
PROOF_IMAGES = 32
"""Real images that the result is compared with the reference on, besides the random example."""


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions, DataOptions, CutOptions, OutOptions):
    """Options of `prune`."""

    verify: Annotated[bool, Option("--verify/--no-verify", help="Compare with the reference (default).")] = True
    latency: Annotated[bool, Option("--latency", help="Measure how much faster the result is, too.")] = False
    schema: Annotated[
        Path | None, Option(metavar="FILE", help="An edited schema (secateur inspect --format keti): what stays whole.")
    ] = None


def run(options: Options) -> Outcome:
    """Cut a network down to a budget. The result is proved against the reference and saved to --out."""
    from secateur.cli.opening import look_up
    from secateur.cli.saving import demand_other, save
    from secateur.cli.session import note
    from secateur.sparse import Pattern
    from secateur.spec import BudgetError, parse_budgets
    from secateur.store import demand_free

    single_weights = any(Pattern.means(kind) for kind in options.granularity)
    if not options.budget and not single_weights:
        raise BudgetError("no budget given; name one, for example --budget macs=0.5 (secateur list budgets)")
    if options.budget:
        parse_budgets(options.budget)
    if options.share and options.allocator not in (SHARED if single_weights else SHARED[:1]):
        raise BudgetError(f"--share is for --allocator {', '.join(SHARED)}; give one of them, too, or drop it")
    if options.calibration is not None and options.calibration < 1:
        raise BudgetError(f"--calibration {options.calibration}: give at least 1 image")
    if options.out is not None:
        demand_free(options.out)
        demand_other(options.out, options.model)
    target = look_up(options)
    data = target.examples(options, "test") if options.data is not None else None
    opened = target.build(data)
    note(f"pruning {target.name} to {', '.join([*options.granularity, *options.budget])}")
    result = _pruned(opened, options, data, _calibration(target, options, opened.device))
    for text in (*result.structure.notes, *result.notes):
        note(text)
    proof = _proof(opened, result, data) if options.verify else None
    if options.out is None:
        note("nothing was saved; --out DIR saves the result")
    else:
        save(
            "prune",
            options,
            result.model,
            out=options.out,
            source=opened.source,
            before=result.before,
            after=result.after,
            verification=proof,
            stages=result.stages,
            notes=result.notes,
        )
    return _outcome(options, result, proof)


def _calibration(target: Target, options: Options, device: torch.device) -> Iterator[Any] | None:
    """Batches of training images, or of text, for what looks at data."""
    from secateur.data import ImageSet
    from secateur.recover import SECOND_ORDER
    from secateur.score import CRITERIA
    from secateur.sparse import UPDATING, WEIGHT_CRITERIA, Pattern

    single_weights = any(Pattern.means(kind) for kind in options.granularity)
    known = WEIGHT_CRITERIA if single_weights else CRITERIA
    updates = (
        options.recover == SECOND_ORDER or options.criterion in UPDATING
        if single_weights
        else options.recover != "none" or options.criterion in ("auto", SECOND_ORDER)
    )
    auto = options.criterion == "auto"
    if options.data is None or not (updates or (not auto and getattr(known.get(options.criterion), "needs", ()))):
        return None
    data = target.examples(replace(options, limit=None), "train")
    if isinstance(data, ImageSet):
        images = data.subset(options.calibration or CALIBRATION_IMAGES, options.seed)
        return images.batches(IMAGES_AT_ONCE, device=device)
    sequences = data.subset(options.calibration or min(CALIBRATION_SEQUENCES, len(data)), options.seed)
    return sequences.batches(max(1, TOKENS_AT_ONCE // data.length), device=device)


def _shares(given: Sequence[str]) -> Mapping[str, float] | str | None:
    from secateur.spec import BudgetError

    if not given or list(given) == ["spectral"]:
        return "spectral" if given else None
    shares: dict[str, float] = {}
    for text in given:
        if text.endswith(".json"):
            shares |= _shares_of_curves(Path(text))
            continue
        name, _, share = text.rpartition("=")
        try:
            shares[name] = float(share)
        except ValueError as error:
            raise BudgetError(f"cannot read share {text!r}: it is NAME=SHARE, for example layer1=0.5") from error
    return shares


def _shares_of_curves(path: Path) -> dict[str, float]:
    """What `secateur sensitivity` told may go."""
    import json

    from secateur.spec import BudgetError

    try:
        return {str(name): float(share) for name, share in json.loads(path.read_text())["shares"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BudgetError(f"{path} holds no shares of secateur sensitivity: {error}") from error


def _pruned(
    opened: Opened, options: Options, data: ImageSet | TextSet | None, calibration: Iterator[Any] | None
) -> PruneResult:
    from secateur.pipeline import PruneConfig, prune

    config = PruneConfig(
        criterion=options.criterion,
        allocator=options.allocator,
        merge=options.merge,
        shares=_shares(options.share),
        round_to=options.profile if options.profile is not None else number_or_name(options.round_to),
        min_keep=options.min_keep,
        max_remove_ratio=options.max_remove_ratio,
        ignore=tuple(options.ignore),
        targets=tuple(options.targets),
        granularity=tuple(options.granularity),
        schema=options.schema,
        tie=options.tie,
        recover=options.recover,
        latency=options.latency,
        seed=options.seed,
    )

    def evaluate(model: nn.Module) -> Mapping[str, Any]:
        return _metrics(model, opened, data)

    return prune(
        opened.model,
        opened.inputs,
        budget=options.budget or None,
        data=calibration,
        evaluate=evaluate,
        verify=options.verify,
        config=config,
    )


def _metrics(model: nn.Module, opened: Opened, data: ImageSet | TextSet | None) -> dict[str, Any]:
    from secateur.train import evaluate

    return evaluate(model, data, device=opened.device) if data is not None else {}


def _proof(opened: Opened, result: PruneResult, data: ImageSet | TextSet | None) -> Verification | None:
    """The worse of two comparisons: on random inputs, and on the first real images or the first sequence of text."""
    from secateur.data import ImageSet
    from secateur.sparse import as_tensors, verify_masks
    from secateur.surgery import shrink, verify

    if data is None or result.verification is None:
        return result.verification
    first = next(data.batches(PROOF_IMAGES if isinstance(data, ImageSet) else 1, device=opened.device))
    inputs = first[:1] if isinstance(first, tuple) else first
    if result.masks is None:
        cut = shrink(opened.model, result.plan) if result.stages else result.model  # what healed makes something else
        on_data = verify(opened.model, cut, result.plan, inputs)
    else:
        on_data = verify_masks(opened.model, result.model, as_tensors(result.masks), inputs)
    return max(result.verification, on_data, key=lambda proof: proof.relative_diff)


def _outcome(options: Options, result: PruneResult, proof: Verification | None) -> Outcome:
    lines = [before_and_after(result.before, result.after), *result.stage_lines()]
    if proof is not None:
        lines.append(proof.said())
    if options.out is not None:
        lines.append(f"saved to {options.out}")
    record = {
        "before": result.before,
        "after": result.after,
        "verification": as_record(proof),
        "out": None if options.out is None else str(options.out),
    }
    return Outcome(record, "\n".join(lines), verified=proof is None or proof.ok)


def as_record(proof: Verification | None) -> dict[str, Any] | None:
    """For `--json`."""
    if proof is None:
        return None
    return {"max_abs_diff": proof.max_abs_diff, "relative_diff": proof.relative_diff, "ok": proof.ok}
