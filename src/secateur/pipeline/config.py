"""How `prune` decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.allocate import Allocator
from secateur.score import Criterion
from secateur.spec import SecateurError
from secateur.structure.schema import Schema
from secateur.structure.selectors import Selector

TIES = ("auto", "config", "none")


@dataclass(frozen=True)
class PruneConfig:
    """How `prune` decides; every field is an option of the command line too."""

    criterion: str | Criterion = "auto"
    """`auto`: where there is data, `second-order`; else `l2`."""
    allocator: str | Allocator = "auto"
    """`auto`: what goes with the criterion, `knapsack` with `second-order`, else `uniform`. Networks of transformers
    are cut uniformly, so that their configuration can say the result."""
    merge: str = "score"
    shares: Mapping[str, float] | str | None = None
    """For the `adaptive` allocator, by axis, module or pattern; or `spectral`, from the entropy of each layer."""
    round_to: int | str = 1
    """Kept counts are multiples of a number, or of what suits a kind of device; or `auto`, those at which the measured
    time falls."""
    min_keep: int = 1
    max_remove_ratio: float = 1.0
    ignore: Sequence[Selector] = ()
    targets: Sequence[Selector] = ()
    granularity: str | Sequence[str] = ()
    """Kinds of axes that are cut, and no others: one or more roles, such as `heads` or `blocks` (docs/glossary.md). Or
    one pattern of single weights that become zero: `element`, `2:4`, `block:4x1`, `kernel`, `row`, `column`."""
    schema: str | Path | Schema | None = None
    """An edited base schema, or the path of one: what it leaves out stays whole."""
    tie: str = "auto"
    """Networks of transformers: `config` cuts only to sizes that their configuration can say, so that `from_pretrained`
    loads the result, `none` does not care, and `auto` is `config` where that costs nothing: the allocator gives every
    layer the same share anyway, no axis stays whole for it, and the budget can be met."""
    recover: str = "auto"
    """How what is left makes up for what is gone; no training, labels are not read. Channels and their like: `refit`
    fits every layer to what it made before the cut, `joint` then fits layers together with those that read them;
    `none` leaves them alone, and `auto` is all of it where there is data. `fold` needs none: channels behind a
    BatchNorm leave what they did to those that are like them. `tune` only gives a factor to each input of each layer,
    `recalibrate` only measures the statistics of BatchNorms anew. Single weights: `second-order` chooses those that go
    together with new values for those that stay, in place of a criterion, the same as naming it as the criterion;
    otherwise they stay as they are."""
    latency: bool = False
    """Also measure how much faster the result is, in turn with the original. Done anyway where a budget or `round_to`
    is in measured time."""
    seed: int = 0


def settings_of(config: PruneConfig | None, options: Mapping[str, Any]) -> PruneConfig:
    if config is None:
        known = PruneConfig.__dataclass_fields__
        unknown = sorted(options.keys() - known.keys())
        if unknown:
            raise SecateurError(f"prune has no option {unknown[0]!r}; it has: {', '.join(sorted(known))}")
        return PruneConfig(**options)
    if options:
        raise SecateurError("give either config or single options to prune, not both")
    return config


def kinds_of(settings: PruneConfig) -> Sequence[str]:
    return [settings.granularity] if isinstance(settings.granularity, str) else list(settings.granularity)
