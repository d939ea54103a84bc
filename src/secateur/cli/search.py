"""`secateur search`: NetAdapt, block by block, with many workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from secateur.cli.options import ArithmeticOptions, DataOptions, ModelOptions, SelectorOptions, number_or_name
from secateur.cli.outcome import Outcome
from secateur.cli.tables import before_and_after, table

if TYPE_CHECKING:
    from secateur.data import ImageSet
    from secateur.search.netadapt import Search, SearchConfig

TITLES = {
    "macs": "MACs",
    "param_count": "parameters",
    "size_bytes": "bytes",
    "activation_bytes": "activation bytes",
    "latency_ms": "ms",
}
"""Of costs, in tables."""


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions, DataOptions, SelectorOptions, ArithmeticOptions):
    """Options of `search`."""

    budget: Annotated[
        list[str], Option(metavar="UNIT=VALUE", help="What the result may cost, e.g. macs=0.5 or latency_ms=3.")
    ] = field(default_factory=list)
    criterion: Annotated[
        str, Option(help="What goes first within a block: l2, taylor, ... (secateur list criteria).")
    ] = "l2"
    block_ratio: Annotated[
        float, Option(help="Share of the network's cost that an iteration takes from one block.")
    ] = 0.1
    together: Annotated[
        str,
        Option(metavar="ALLOCATOR", help="How one more candidate cuts all blocks together: as prune does, or none."),
    ] = "auto"
    decay: Annotated[float, Option(help="Factor of that from one iteration to the next.")] = 1.0
    round_to: Annotated[str, Option(metavar="N", help="Kept counts are multiples of this; or a device, or auto.")] = "1"
    final_round_to: Annotated[
        str, Option(metavar="N", help="After the search, all counts become multiples of this.")
    ] = "1"
    min_keep: Annotated[int, Option(help="Channels that every layer keeps at least.")] = 1
    granularity: Annotated[
        list[str], Option(metavar="KIND", help="Cut these kinds alone: channels, heads, blocks, ...; repeatable.")
    ] = field(default_factory=list)
    keep_scores: Annotated[
        bool, Option("--keep-scores", help="Score once, at the start, and not in each iteration.")
    ] = False
    recover: Annotated[str, Option(help="Healing of each candidate without training: refit, joint, none, ...")] = (
        "refit"
    )
    calibration: Annotated[int, Option(help="Training images that healing and criteria look at.")] = 256
    held_out: Annotated[float, Option(metavar="SHARE", help="Share of the training images that judge.")] = 0.1
    judge_by: Annotated[str, Option(help="accuracy, or loss, which tells more on few images.")] = "accuracy"
    workers: Annotated[
        str | None,
        Option(
            metavar="WHO",
            help="Who makes candidates: cpu:4 (processes), cpu:1x2 (one worker of two processes that share batches), "
            "0,0,1 (GPUs, several on one), ray, ray:2 (on each GPU); this process when not given. The result is the "
            "same for any number of workers.",
        ),
    ] = None
    short_steps: Annotated[
        int | None, Option(help="Training of a candidate that stays in the race; 50 when nothing is given.")
    ] = None
    short_epochs: Annotated[float | None, Option(help="The same, in rounds through the training images.")] = None
    short_lr: Annotated[float, Option(help="Largest learning rate of that.")] = 0.01
    winner_steps: Annotated[int, Option(help="More training of the one that wins the race.")] = 0
    exhaustive: Annotated[bool, Option("--exhaustive", help="Train every candidate to the end.")] = False
    teacher: Annotated[float, Option(help="Weight of the dense network's answers in all training, 0..1.")] = 0.0
    teacher_features: Annotated[
        float, Option(help="Weight of the difference from what the dense network's residual blocks give.")
    ] = 0.0
    epochs: Annotated[int, Option(help="Rounds of training of the result.")] = 0
    lr: Annotated[float, Option(help="Largest learning rate of that.")] = 0.02
    patience: Annotated[int | None, Option(metavar="EPOCHS", help="Stop it when so many were no better.")] = None
    batch_size: Annotated[int, Option(help="Images per step.")] = 128
    augment: Annotated[bool, Option("--augment", help="Shift images at random, and mirror them where that fits.")] = (
        False
    )
    class_weights: Annotated[str, Option(help="balanced: labels of rare classes count more; or none.")] = "none"
    from_iteration: Annotated[int | None, Option(metavar="N", help="Go back there, and on from there.")] = None
    out: Annotated[Path, Option(metavar="DIR", help="Folder of the search; the same command goes on there.")] = Path(
        "search"
    )


def run(options: Options) -> Outcome:
    """Search for a network within a budget: block by block, cut a little, heal and train a little, keep the best. A run
    that was killed goes on where it was."""
    from secateur.cli.prune import as_record
    from secateur.cli.saving import demand_other, demand_own
    from secateur.search.netadapt.run_folder import JOURNAL
    from secateur.search.workers import open_workers
    from secateur.spec import BudgetError
    from secateur.train import evaluate

    if not options.budget:
        raise BudgetError("no budget given; name one, for example --budget macs=0.5 (secateur list budgets)")
    demand_own(options.out, JOURNAL, "search")
    demand_other(options.out, options.model)
    search, test_set = opened_search(options)
    workers = open_workers(options.workers, threads=options.threads or 1, device=options.device)
    try:
        search.workers = workers
        result = search.run(from_iteration=options.from_iteration)
    finally:
        workers.close()
    before, after = (
        {**metrics, **evaluate(model.to(search.device), test_set, device=search.device)}
        for metrics, model in ((result.before, search.model), (result.after, result.model))
    )
    proof = result.verification
    lines = [_history(result.rows), "", before_and_after(before, after)]
    lines += [proof.said()] if proof is not None else []
    lines += [
        f"saved to {result.folder}",
        "",
        f"no other candidate was both more accurate and lower in {TITLES[result.front_by]} than these:",
        _front(result.front, result.front_by),
        f"secateur materialise {options.out} --iteration N --block NAME --out DIR saves one",
    ]
    record = {
        "before": before,
        "after": after,
        "iterations": list(result.rows),
        "front": list(result.front),
        "front_by": result.front_by,
        "verification": None if proof is None else as_record(proof),
        "out": str(result.folder),
    }
    return Outcome(record, "\n".join(lines), verified=proof is None or proof.ok)


def opened_search(options: Options) -> tuple[Search, ImageSet]:
    """The search that the options ask for, in its folder, and the images that judge its result."""
    from secateur.cli.opening import look_up
    from secateur.cli.recipe import FILE_NAME, as_recipe
    from secateur.cli.session import note
    from secateur.search.netadapt import Search
    from secateur.spec import parse_budgets
    from secateur.structure.capture import normalise_inputs

    target = look_up(options)
    train_set, test_set = target.images(options, "train"), target.images(options, "test")
    opened = target.build(train_set)
    if not target.is_trained:
        note(f"the weights of {target.name} are random, so what goes first is, too; train it before, or give --weights")
    search = Search(
        opened.model.cpu(),
        normalise_inputs(opened.inputs),
        parse_budgets(options.budget),
        train_set,
        options.out,
        config=_config(options, len(train_set)),
        device=options.device,
        source=opened.source,
        told=note,
        texts={FILE_NAME: as_recipe("search", replace(options, from_iteration=None))},
    )
    return search, test_set


def _config(options: Options, images: int) -> SearchConfig:
    from secateur.search.netadapt import SearchConfig
    from secateur.train import TrainConfig

    training = TrainConfig(
        batch_size=options.batch_size,
        augment=options.augment,
        precision=options.precision,  # type: ignore[arg-type]
        channels_last=options.channels_last,
        class_weights=options.class_weights,  # type: ignore[arg-type]
    )
    return SearchConfig(
        criterion=options.criterion,
        block_ratio=options.block_ratio,
        together=options.together,
        decay=options.decay,
        round_to=number_or_name(options.round_to),
        final_round_to=number_or_name(options.final_round_to),
        min_keep=options.min_keep,
        ignore=tuple(options.ignore),
        targets=tuple(options.targets),
        granularity=tuple(options.granularity),
        recover=options.recover,
        calibration=options.calibration,
        held_out=options.held_out,
        judge_by=options.judge_by,  # type: ignore[arg-type]
        short_steps=_short_steps(options, images),
        winner_steps=options.winner_steps,
        exhaustive=options.exhaustive,
        short_training=replace(training, learning_rate=options.short_lr, schedule="cosine"),
        teacher=options.teacher,
        teacher_features=options.teacher_features,
        long_epochs=options.epochs,
        long_training=replace(training, learning_rate=options.lr, early_stopping=options.patience),
        keep_scores=options.keep_scores,
        seed=options.seed,
    )


def _short_steps(options: Options, images: int) -> int:
    from secateur.search.netadapt import SearchConfig
    from secateur.spec import BudgetError

    if options.short_epochs is None:
        return SearchConfig().short_steps if options.short_steps is None else options.short_steps
    if options.short_steps is not None:
        raise BudgetError("give --short-steps or --short-epochs, not both")
    return round(options.short_epochs * images * (1 - options.held_out) / options.batch_size)


def _history(rows: Sequence[Mapping[str, Any]]) -> str:
    timed = any("latency_ms" in row for row in rows)
    return _listed(rows, ("before", "after"), ("macs", "size_bytes", *(["latency_ms"] if timed else [])))


def _front(rows: Sequence[Mapping[str, Any]], cost: str) -> str:
    return _listed(rows, (), tuple(dict.fromkeys((cost, "macs", "size_bytes"))))


def _listed(rows: Sequence[Mapping[str, Any]], sizes: Sequence[str], costs: Sequence[str]) -> str:
    lines = [("N", "block", *sizes, "accuracy", *(TITLES[cost] for cost in costs))]
    for row in rows:
        widths = (str(row[size]) for size in sizes)
        spent = (_cost(cost, row.get(cost)) for cost in costs)
        lines.append((str(row["iteration"]), row["block"], *widths, f"{row['accuracy']:.4f}", *spent))
    return table(lines)


def _cost(cost: str, value: float | None) -> str:
    """Times are not told of what was tried before they counted."""
    return "-" if value is None else f"{value:.3f}" if cost == "latency_ms" else f"{value:,}"
