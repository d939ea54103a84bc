"""`secateur sensitivity`: what each layer costs when it alone is pruned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from secateur.cli.options import DataOptions, ModelOptions, OutOptions
from secateur.cli.outcome import Outcome

if TYPE_CHECKING:
    from torch import nn

    from secateur.cli.opening import Opened
    from secateur.data import ImageSet
    from secateur.search import Curves, Level

LEVELS, RESULT, PICTURE = "levels.json", "sensitivity.json", "sensitivity.svg"
CALIBRATION_BATCH = 128


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions, DataOptions, OutOptions):
    """Options of `sensitivity`."""

    granularity: Annotated[
        str, Option(metavar="KIND", help="element, 2:4, block:4x1, ... for zeros; channels, heads, ... for real cuts.")
    ] = "element"
    criterion: Annotated[str, Option(help="What goes first (secateur list criteria).")] = "l2"
    ratio: Annotated[list[float], Option(metavar="SHARE", help="Share that goes; repeatable. [0.1 ... 0.9]")] = field(
        default_factory=list
    )
    tolerance: Annotated[float, Option(help="Loss of accuracy for which the share that may go is told.")] = 0.01
    sparsity: Annotated[
        float | None,
        Option(help="Tell the shares that lose least in all when this share of the weights goes, instead."),
    ] = None
    split: Annotated[str, Option(help="train or test: which images judge.")] = "train"
    images: Annotated[int, Option(help="How many images judge, and how many a criterion looks at.")] = 2048


def run(options: Options) -> Outcome:
    """Prune each layer alone at several ratios: ranked curves, as table, JSON and picture. Goes on where it stopped."""
    from secateur.allocate import shares_from_curves, shares_that_lose_least
    from secateur.cli.opening import look_up
    from secateur.cli.saving import demand_own
    from secateur.cli.session import note
    from secateur.search import RATIOS, judged
    from secateur.sparse import Pattern, prunable_weights
    from secateur.spec import BudgetError
    from secateur.train import evaluate

    if options.images < 1:
        raise BudgetError(f"--images {options.images}: give at least 1")
    if options.sparsity is not None and options.granularity != "element":
        raise BudgetError(f"--sparsity is for --granularity element, not {options.granularity}; give --tolerance")
    demand_own(options.out, LEVELS, "sensitivity")
    target = look_up(options)
    images = _part(target.images(options, options.split), options)
    opened = target.build(images)
    levels = list(_levels(opened, options, _part(target.images(options, "train"), options)))
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    note(f"judging {len(levels)} levels of {target.name} on {len(images)} images")

    def accuracy(model: nn.Module) -> float:
        return evaluate(model, images, device=opened.device)["accuracy"]

    curves = judged(opened.model, levels, accuracy, _journal(opened, options))
    alone = {name for level in levels for name in level.names}
    left_out = [name for name in prunable_weights(opened.model) if name not in alone]
    if Pattern.means(options.granularity) and left_out:
        note(f"not judged: {', '.join(left_out)}; no ratio takes some of it and leaves some, or it has no scores")
    ranked = dict(sorted(curves.items(), key=lambda item: -_mean_loss(item[1])))
    if options.sparsity is None:
        shares = shares_from_curves(ranked, tolerance=options.tolerance)
    else:
        sizes = {name: weight.numel() for name, weight in prunable_weights(opened.model).items()}
        shares = shares_that_lose_least(ranked, sizes, options.sparsity)
    record = {"curves": ranked, "shares": shares, "out": None if options.out is None else str(options.out)}
    meant = f"at {options.tolerance:g}" if options.sparsity is None else f"for {options.sparsity:.0%}"
    text = _table(ranked, shares, options.ratio or RATIOS, meant)
    if options.out is None:
        note("nothing was saved; --out DIR saves the curves, and each level as soon as it is judged")
    else:
        _save(options, record, ranked, target.name)
        text += f"\nsaved to {options.out}"
    return Outcome(record, text)


def _part(images: ImageSet, options: Options) -> ImageSet:
    return images.subset(min(options.images, len(images)), options.seed)


def _levels(opened: Opened, options: Options, calibration: ImageSet) -> Iterable[Level]:
    from secateur.score import score
    from secateur.search import RATIOS, channel_levels, weight_levels
    from secateur.sparse import Pattern, WeightConfig
    from secateur.sparse.pruning import score_weights
    from secateur.structure import trace
    from secateur.structure.capture import normalise_inputs
    from secateur.structure.selectors import restrict

    ratios = options.ratio or RATIOS
    data = calibration.batches(CALIBRATION_BATCH, device=opened.device)
    if Pattern.means(options.granularity):
        config = WeightConfig(Pattern.parse(options.granularity), options.criterion, seed=options.seed)
        scores = score_weights(opened.model, normalise_inputs(opened.inputs), config, data)
        return weight_levels(opened.model, scores, config.pattern, ratios)
    structure = restrict(trace(opened.model, opened.inputs), opened.model, granularity=options.granularity)
    found = score(opened.model, structure, criterion=options.criterion, data=data, seed=options.seed)
    return channel_levels(opened.model, structure, found, ratios)


def _journal(opened: Opened, options: Options) -> Any:
    """Of everything that a level's number depends on."""
    from secateur.search import Journal, digest_of

    if options.out is None:
        return None
    asked = ("granularity", "criterion", "data", "limit", "split", "images", "seed")
    about = {name: getattr(options, name) for name in asked} | {"weights": digest_of(opened.model)}
    return Journal(options.out / LEVELS, about)


def _mean_loss(curve: Sequence[tuple[float, float]]) -> float:
    return sum(lost for _, lost in curve) / len(curve)


def _table(curves: Curves, shares: Mapping[str, float], ratios: Sequence[float], meant: str) -> str:
    """The most sensitive first; axes, which have whole indices, stand under the nearest ratio."""
    from secateur.cli.tables import table

    rows = [("accuracy lost at", *(f"{ratio:.0%}" for ratio in ratios), f"may go {meant}")]
    for name, curve in curves.items():
        lost = {_nearest(ratio, ratios): f"{loss:.4f}" for ratio, loss in curve}
        rows.append((name, *(lost.get(ratio, "") for ratio in ratios), f"{shares[name]:.0%}"))
    return table(rows)


def _nearest(ratio: float, ratios: Sequence[float]) -> float:
    return min(ratios, key=lambda asked: abs(asked - ratio))


def _save(options: Options, record: Mapping[str, Any], curves: Curves, name: str) -> None:
    from secateur.cli.outcome import as_json
    from secateur.cli.picture import curves_svg
    from secateur.cli.recipe import FILE_NAME, as_recipe
    from secateur.spec.files import write_whole

    title = f"sensitivity of {name}"
    picture = curves_svg(curves, title=title, across="share of the layer that goes", up="accuracy lost")
    texts = {RESULT: as_json(record) + "\n", PICTURE: picture, FILE_NAME: as_recipe("sensitivity", options)}
    for file, text in texts.items():
        write_whole(Path(record["out"]) / file, text)
