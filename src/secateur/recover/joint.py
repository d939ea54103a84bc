"""Layers that belong together fitted together: two residual blocks in a row, or a few layers.

Fitted by itself, a layer whose outputs were cut can only go on making those that are left. Together with the layer
that reads them it makes others, which say more about what is wanted. The output of the part is linearised in its
weights (Gauss-Newton), and the least squares problem is solved by conjugate gradients, whose preconditioner is the
product of the second moments of what a layer reads and of what its outputs count for (K-FAC: Optimizing Neural Networks
with Kronecker-factored Approximate Curvature, 2015). Reads no label. A step that does not help on samples that it has
not seen is taken back.

The smaller and the dense network are replayed side by side, part by part, so that of the activations only those are
alive that lie between two parts. Suffixes of shapes: N samples, R outputs, D columns and a constant.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._pytree import tree_leaves

from secateur.recover.pairs import Pair, find_pairs
from secateur.recover.replay import Replay, Seen, Values
from secateur.recover.segments import Segment, find_segments, windows
from secateur.score.gradients import Batch, first_batch, picked, sample_count
from secateur.score.progress import tracked
from secateur.sparse.second_order.layers import Layer
from secateur.spec import Plan
from secateur.structure.capture import Inputs, as_captured, call_model, capture_with_values
from secateur.structure.modes import eval_mode

SAMPLES = 64
"""Samples that are replayed together."""
STEPS = 2
"""Gauss-Newton steps of a part, at most."""
WORTH_ANOTHER = 0.05
"""Of what is off, a step has to take off as much for another one to be tried."""
TURNS = 8
"""Of the conjugate gradients, in each step."""
RIDGE = 1e-2
"""Of the preconditioner's metric, with which weights are pulled to where they are."""
EQUATIONS = 200
"""Numbers to be met for each weight, at least, where the data holds as many."""
TOO_FEW = 20
"""With fewer, the part is left as it is: data says too little about its weights."""
ENOUGH = 256
"""Samples, at least, where the data holds as many."""
JUDGING = 1 / 8
"""Share of the samples that only judge."""
FACTORS = 4
"""Of the batches that are replayed, those that the preconditioner is made from."""

Rows = dict[str, Tensor]
"""By weight, `(R, D)`."""


@dataclass(frozen=True)
class Part:
    """Some samples, and how far both networks have got with them."""

    small: Replay
    dense: Replay
    values: Values
    dense_values: Values

    def advanced(self, start: int, stop: int) -> Part:
        return replace(
            self,
            values=self.small.run(self.values, start, stop),
            dense_values=self.dense.run(self.dense_values, start, stop),
        )

    def wanted(self, segment: Segment, pairs: Mapping[str, Pair]) -> Tensor:
        """What the segment is to make: what the dense one makes, of the channels that are left."""
        made = self.dense.run(self.dense_values, segment.start, segment.stop)[segment.made]
        rows = pairs[segment.products[-1][1]].rows
        for dim, (size, full) in enumerate(zip(self.small.program.shapes[segment.made], made.shape, strict=True)):
            if size != full and len(rows) == size:
                made = made.index_select(dim, rows)
        return made


def joint_refit_(
    small: nn.Module,
    dense: nn.Module,
    plan: Plan,
    data: Sequence[Batch],
    generator: torch.Generator,
    *,
    kept: Mapping[str, Tensor] | None = None,
) -> list[str]:
    """Fit parts of the smaller network in place, in their order; returns the weights that were fitted.

    plan: what the smaller network was cut by. data: calibration batches; labels are not read. kept: of some weights, of
    their shapes, False at zeros that stay. Networks that can not be
    replayed, or not be taken apart, stay as they are. Raises ScoreError where there is no batch.
    """
    inputs, _ = first_batch(data)
    with eval_mode(small, dense), as_captured(small):
        pairs = find_pairs(small, dense, plan, inputs)
        parts = _parts(small, dense, data)
        rows = {name: pairs[name].small.kept_rows(mask) for name, mask in (kept or {}).items() if name in pairs}
        return _joint_refit_(small, pairs, parts, generator, rows) if parts else []


def _joint_refit_(
    small: nn.Module, pairs: Mapping[str, Pair], parts: list[Part], generator: torch.Generator, kept: Rows
) -> list[str]:
    done: list[str] = []
    place = 0
    segments = find_segments(parts[0].small.program, dict(small.named_parameters()).keys(), pairs.keys())
    for choices in tracked(windows(segments), "fitting layers together", len(segments)):
        for number, part in enumerate(parts):  # one by one, so that what is behind is not alive any more
            parts[number] = part.advanced(place, choices[0].start)
        place = choices[0].start
        judges = parts[-max(1, int(JUDGING * len(parts))) :]
        for segment in choices:
            problem = _Problem(small, segment, pairs, generator, kept)
            enough = problem.enough(parts[: -len(judges)] or parts)
            if enough:
                if problem.solve_(enough, judges):
                    done += [name for name in segment.weights if name not in done]
                break
    return done


def _parts(small: nn.Module, dense: nn.Module, data: Sequence[Batch]) -> list[Part]:
    """All samples, as many at a time; those left over of a batch are left out."""
    known: dict[tuple[torch.Size, ...], tuple[Replay, Replay] | None] = {}
    parts: list[Part] = []
    for inputs, _ in data:
        count = sample_count(inputs)
        size = min(SAMPLES, count)
        for start in range(0, count - size + 1, size):
            own = picked(inputs, slice(start, start + size))
            shapes = tuple(leaf.shape for leaf in tree_leaves(own) if isinstance(leaf, Tensor))
            if shapes not in known:
                known[shapes] = _replays(small, dense, own)
            found = known[shapes]
            if found is not None and _same_operators(found[0], parts[0].small if parts else found[0]):
                parts.append(Part(*found, found[0].begin(own), found[1].begin(own)))
    return parts


def _replays(small: nn.Module, dense: nn.Module, inputs: Inputs) -> tuple[Replay, Replay] | None:
    """Of both networks; None where they take different paths, or where a replay is not what the network does."""
    ours, theirs = (Replay(capture_with_values(model, inputs), model) for model in (small, dense))
    agrees = ours.agrees(call_model(small, inputs), inputs) and theirs.agrees(call_model(dense, inputs), inputs)
    return (ours, theirs) if agrees and _same_operators(ours, theirs) else None


def _same_operators(one: Replay, other: Replay) -> bool:
    return [op.target for op in one.program.ops] == [op.target for op in other.program.ops]


class _Problem:
    """The least squares problem of a part."""

    def __init__(
        self, model: nn.Module, segment: Segment, pairs: Mapping[str, Pair], generator: torch.Generator, kept: Rows
    ) -> None:
        self.model, self.segment, self.pairs, self.generator = model, segment, pairs, generator
        self.kept = kept
        self.layers = {name: pairs[name].small for name in segment.weights}
        self._held = model.state_dict(keep_vars=True)

    def enough(self, parts: Sequence[Part]) -> Sequence[Part]:
        """As many as the weights need; none where there are too few."""
        each = prod(parts[0].small.program.shapes[self.segment.made])
        weights = sum(layer.weight.numel() for layer in self.layers.values())
        if len(parts) * each < TOO_FEW * weights:
            return ()
        return parts[: max(ceil(EQUATIONS * weights / each), ceil(ENOUGH / SAMPLES))]

    def solve_(self, parts: Sequence[Part], judges: Sequence[Part]) -> bool:
        """Change the layers; False where that would not help."""
        wanted = [part.wanted(self.segment, self.pairs) for part in parts]
        judged = wanted if judges is parts else [part.wanted(self.segment, self.pairs) for part in judges]
        if wanted[0].shape != parts[0].small.program.shapes[self.segment.made]:
            return False  # what is left of it cannot be told
        before, helped = self._error(judges, judged), False
        for _ in range(STEPS):
            start = {name: layer.values() for name, layer in self.layers.items()}
            state = {name: tensor.clone() for name, tensor in self._named(start).items()}
            step = self._step(start, parts, wanted)
            for name, layer in self.layers.items():
                layer.write_(self.model, start[name] + step[name])
            after = self._error(judges, judged)
            if not after < before:
                for name, tensor in state.items():
                    self._held[name].detach().copy_(tensor)
                break
            off, before, helped = before, after, True
            if off - after < WORTH_ANOTHER * off:
                break
        return helped

    def _named(self, rows: Rows) -> dict[str, Tensor]:
        """What these rows mean for the tensors of the model."""
        named: dict[str, Tensor] = {}
        for name, layer in self.layers.items():
            named[name] = layer.layout.tensor(rows[name][:, :-1])
            if layer.constant is not None:
                named[layer.constant] = self._held[layer.constant].detach() + layer.constant_sign * rows[name][:, -1]
        return named

    def _made(self, part: Part, rows: Rows, seen: Seen | None = None) -> Tensor:
        segment = self.segment
        return part.small.run(part.values, segment.start, segment.stop, self._named(rows), seen)[segment.made]

    def _error(self, parts: Sequence[Part], wanted: Sequence[Tensor]) -> float:
        rows = {name: layer.values() for name, layer in self.layers.items()}
        return sum(float((self._made(part, rows) - y).square().sum()) for part, y in zip(parts, wanted, strict=True))

    def _step(self, start: Rows, parts: Sequence[Part], wanted: Sequence[Tensor]) -> Rows:
        """What to add to the rows."""
        slope = {name: torch.zeros_like(value) for name, value in start.items()}
        metric = _Metric(self.layers)
        for number, (part, y) in enumerate(zip(parts, wanted, strict=True)):
            leaves = {name: value.clone().requires_grad_() for name, value in start.items()}
            seen: Seen = dict.fromkeys((place for place, _ in self.segment.products), None)
            with torch.enable_grad():
                made = self._made(part, leaves, seen)
            again = number < FACTORS
            found = _slopes(made, list(leaves.values()), y - made.detach(), keep=again)
            for total, own in zip(slope.values(), found, strict=True):
                total += own
            if again:
                metric.add(self._products(seen, made), self.generator)
        metric.finish(len(parts))
        return _conjugate_gradients(slope, lambda rows: self._curvature(start, rows, parts), metric, self._free)

    def _free(self, rows: Rows) -> Rows:
        """The rows with zeros where weights are not to change."""
        return {name: value * self.kept[name] if name in self.kept else value for name, value in rows.items()}

    def _products(self, seen: Seen, made: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Of each product its weight, what it read, and how a random direction of the part's output depends on what it
        made."""
        sign = torch.randint(0, 2, made.shape, generator=self.generator).to(made) * 2 - 1
        outputs = [seen[place][1] for place, _ in self.segment.products]  # type: ignore[index]
        slopes = _slopes(made, outputs, sign)
        for (place, name), slope in zip(self.segment.products, slopes, strict=True):
            yield name, seen[place][0].detach(), slope  # type: ignore[index]

    def _curvature(self, start: Rows, change: Rows, parts: Sequence[Part]) -> Rows:
        """`J^T J change`."""
        total = {name: torch.zeros_like(value) for name, value in start.items()}
        for part in parts:
            leaves = {name: value.clone().requires_grad_() for name, value in start.items()}
            with torch.enable_grad():
                made, along = _along(lambda rows, part=part: self._made(part, rows), leaves, change)
            found = _slopes(made, list(leaves.values()), along.detach())
            for sum_, own in zip(total.values(), found, strict=True):
                sum_ += own
        return total


def _slopes(made: Tensor, of: Sequence[Tensor], along: Tensor, *, keep: bool = False) -> tuple[Tensor, ...]:
    """How `along . made` depends on each of these tensors; zero where it does not."""
    return torch.autograd.grad(made, of, along, retain_graph=keep, allow_unused=True, materialize_grads=True)


def _along(function: Callable[[Rows], Tensor], start: Rows, change: Rows) -> tuple[Tensor, Tensor]:
    """What the function makes, and its derivative in the direction of the change."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        # torch compiles its own derivatives in a way that it has deprecated
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=DeprecationWarning)
        both = {name: forward_ad.make_dual(value, change[name]) for name, value in start.items()}
        made = forward_ad.unpack_dual(function(both))
        return made.primal, torch.zeros_like(made.primal) if made.tangent is None else made.tangent


class _Metric:
    """`G v A` of the rows `v` of each layer, with A the second moments of what it reads and G those of what its outputs
    count for, group by group; and the inverse of that."""

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        self.layers = layers
        self._read: dict[str, Tensor] = {}
        self._count: dict[str, Tensor] = {}
        self._inverses: dict[str, tuple[Tensor, ...]] = {}
        self._added = 0

    def add(self, products: Iterator[tuple[str, Tensor, Tensor]], generator: torch.Generator) -> None:
        """products: of one batch, weight, what it read, and how much each of its outputs counted."""
        self._added += 1
        for name, x, slope in products:
            layer = self.layers[name]
            columns_GDn = layer.columns(x, generator).permute(1, 2, 0, 3).flatten(2)
            slopes_GOn = layer.outputs(slope).permute(1, 2, 0, 3).flatten(2)
            read_GDD = columns_GDn @ columns_GDn.transpose(1, 2) / columns_GDn.shape[2]
            count_GOO = slopes_GOn @ slopes_GOn.transpose(1, 2)
            self._read[name] = self._read[name] + read_GDD if name in self._read else read_GDD
            self._count[name] = self._count[name] + count_GOO if name in self._count else count_GOO

    def finish(self, batches: int) -> None:
        """batches: how many the problem holds."""
        for name in self.layers:
            self._read[name] = _damped(self._read[name] / self._added, 1e-3)
            self._count[name] = _damped(self._count[name] * (batches / self._added), 1e-2)
            self._inverses[name] = tuple(
                torch.linalg.inv(factor.double()).float() for factor in (self._count[name], self._read[name])
            )

    def of(self, rows: Rows) -> Rows:
        """The metric's product with the rows."""
        return {name: self._between(name, self._count[name], rows[name], self._read[name]) for name in rows}

    def solved(self, rows: Rows) -> Rows:
        """What `of` makes the rows of."""
        inverses = self._inverses
        return {name: self._between(name, inverses[name][0], rows[name], inverses[name][1]) for name in rows}

    def _between(self, name: str, left_GOO: Tensor, rows_RD: Tensor, right_GDD: Tensor) -> Tensor:
        layer = self.layers[name]
        made = (left_GOO @ rows_RD.unflatten(0, (layer.groups, -1)) @ right_GDD).flatten(0, 1)
        if layer.constant is None:
            made[:, -1] = 0
        return made


def _damped(factor_GSS: Tensor, share: float) -> Tensor:
    extra_G1 = (share * factor_GSS.diagonal(dim1=1, dim2=2).mean(1, keepdim=True)).clamp(min=1e-12)
    return factor_GSS + torch.diag_embed(extra_G1.expand(-1, factor_GSS.shape[1]))


def _conjugate_gradients(
    slope: Rows, curvature: Callable[[Rows], Rows], metric: _Metric, free: Callable[[Rows], Rows]
) -> Rows:
    """What minimises the linearised problem, nearly: `TURNS` turns from zero. free: leaves what may change."""
    found = {name: torch.zeros_like(value) for name, value in slope.items()}
    left = {name: value.clone() for name, value in free(slope).items()}
    solved = free(metric.solved(left))
    way, size = dict(solved), _product(left, solved)
    for _ in range(TURNS):
        pulled = metric.of(way)
        bent = free({name: value + RIDGE * pulled[name] for name, value in curvature(way).items()})
        length = _product(way, bent)
        if not length > 0:
            break
        for name in found:
            found[name] += size / length * way[name]
            left[name] -= size / length * bent[name]
        solved = free(metric.solved(left))
        size, before = _product(left, solved), size
        way = {name: value + size / before * way[name] for name, value in solved.items()}
    return found


def _product(one: Rows, other: Rows) -> float:
    return sum(float((one[name].double() * other[name]).sum()) for name in one)
