"""The operators of a captured forward that take time, each as something that can run alone at any axis sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._pytree import tree_leaves, tree_map

from secateur.spec.expr import Expr, axes_of, size_of
from secateur.structure import Traced
from secateur.structure.freeze import Names
from secateur.structure.program import Op, Program, Ref, refs

aten = torch.ops.aten

_TURNING = (aten.t.default, aten.transpose.int, aten.permute.default)
"""Views that change strides and name no size: what reads them is timed on the same strides."""

_FREE = (aten._unsafe_view.default,)
"""Views that do not say so in their schema."""


@dataclass(frozen=True, repr=False)
class Sample:
    """A tensor to run an operator on; made contiguous, then turned."""

    shape: tuple[int, ...]
    """Before it is turned."""
    dtype: torch.dtype
    turns: tuple[tuple[Any, tuple[Any, ...]], ...] = ()
    """(operator, its arguments after the tensor), the first one first."""

    def make(self, device: torch.device) -> torch.Tensor:
        """Ones, which stay finite and normal whatever runs on them; zeros where they are counts or positions."""
        make = torch.ones if self.dtype.is_floating_point or self.dtype.is_complex else torch.zeros
        tensor = make(self.shape, dtype=self.dtype, device=device)
        for turn, rest in self.turns:
            tensor = turn(tensor, *rest)
        return tensor

    def __repr__(self) -> str:
        turned = "".join(f".{turn}{rest}" for turn, rest in self.turns)
        return f"{str(self.dtype).removeprefix('torch.')}{list(self.shape)}{turned}"


@dataclass(frozen=True)
class Case:
    """One call of an operator at given sizes. `args` and `kwargs` hold a `Sample` where the call had a tensor."""

    name: str
    target: Callable[..., Any]
    args: list[Any]
    kwargs: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The same for all calls that take the same time on a device."""
        return f"{self.name}{self.args}{self.kwargs or ''}".replace(" ", "")

    @property
    def samples(self) -> list[Sample]:
        """The tensors that it reads."""
        return [leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Sample)]

    def prepare(self, device: torch.device) -> Callable[[], object]:
        """The call on real tensors, ready to run any number of times."""

        def real(value: Any) -> Any:
            if isinstance(value, Sample):
                return value.make(device)
            return device if isinstance(value, torch.device) else value  # the capture ran on another device

        args, kwargs = tree_map(real, (self.args, self.kwargs))
        return lambda: self.target(*args, **kwargs)


class Operator:
    """An operator of the program as a function of the axis sizes."""

    def __init__(
        self, name: str, target: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], place: _Place
    ) -> None:
        self.name = name
        self.home = place.home
        """The block that it leaves with, if any."""
        self._target, self._args, self._kwargs = target, list(args), dict(kwargs)
        self._program, self._made = place.program, place.made
        tensors = {*refs([self._args, self._kwargs]), *place.made}
        self._dims = {number: place.program.dims(number) for number in tensors}
        self.axes = tuple(sorted({axis for dims in self._dims.values() for dim in dims for axis in axes_of(dim)}))
        """Those that its tensors have."""

    def at(self, sizes: Mapping[str, int]) -> Case:
        """The call when its axes have these sizes."""

        def sized(value: Any) -> Any:
            return self._program.sample(value.id, sizes) if isinstance(value, Ref) else _plain(value)

        args, kwargs = tree_map(sized, (self._args, self._kwargs))
        resize = _SIZES.get(self._target)
        if resize is not None:
            resize(args, [tuple(size_of(dim, sizes) for dim in self._dims[number]) for number in self._made])
        return Case(self.name, self._target, args, kwargs)

    def elements(self, sizes: Mapping[str, int]) -> int:
        """Numbers that it reads and writes."""
        return sum(prod(size_of(dim, sizes) for dim in dims) for dims in self._dims.values())


def _plain(value: Any) -> Any:
    """A number that remembers where it came from, as one that does not."""
    if isinstance(value, bool):
        return value
    return int(value) if isinstance(value, int) else float(value) if isinstance(value, float) else value


@dataclass(frozen=True)
class _Place:
    """Where an operator stands."""

    program: _Dimensioned
    made: tuple[int, ...]
    home: str | None


class _Dimensioned:
    """A program whose tensors have dimensions in terms of axes."""

    def __init__(self, traced: Traced) -> None:
        self.program: Program = traced.program
        self._tracker = traced.tracker
        self._names = Names(traced.tracker.named)
        self._maker = {op.outputs[0]: op for op in traced.program.ops if op.target in _TURNING}
        self._dims: dict[int, tuple[Expr, ...]] = {}

    def dims(self, number: int) -> tuple[Expr, ...]:
        """Dimensions of the tensor of that number."""
        if number not in self._dims:
            self._dims[number] = tuple(self._names.expr(node) for node in self._tracker.dims(number))
        return self._dims[number]

    def sample(self, number: int, sizes: Mapping[str, int]) -> Sample:
        """The tensor of that number at these sizes."""
        turns: list[tuple[Any, tuple[Any, ...]]] = []
        while number in self._maker:
            op = self._maker[number]
            turns.append((op.target, tree_map(_plain, op.args[1:])))
            number = op.args[0].id
        shape = tuple(size_of(dim, sizes) for dim in self.dims(number))
        return Sample(shape, self.program.dtypes[number], tuple(reversed(turns)))


def timed_operators(traced: Traced) -> list[Operator]:
    """Operators that take time, in the order in which they run; an attention that a device runs as one is one."""
    program = _Dimensioned(traced)
    homes = _homes(traced)
    found: list[Operator] = []
    fused: set[int] = set()
    for number, op in enumerate(traced.program.ops):
        call = op.call
        if call is not None and call.function is scaled_dot_product_attention:
            if id(call) not in fused:
                fused.add(id(call))
                place = _Place(program, tuple(refs(call.result)), homes.get(number))
                found.append(Operator(call.function.__name__, call.function, call.args, call.kwargs, place))
        elif _takes_time(op):
            made = tuple(output for output in op.outputs if output >= 0)
            place = _Place(program, made, homes.get(number))
            found.append(Operator(str(op.target), op.target, op.args, op.kwargs, place))
    return found


def _takes_time(op: Op) -> bool:
    """Whether it computes or copies; views do not, nor do tensors that are made from nothing."""
    return bool(op.reads) and not op.target.is_view and op.target not in _FREE


def _homes(traced: Traced) -> dict[int, str]:
    """Operator -> axis of the residual block that it is in."""
    axes = {block.module: block.axis for block in traced.structure.blocks}
    calls = [call for call in traced.program.blocks if call.path in axes]
    return {number: axes[call.path] for call in calls for number in range(call.start, call.stop)}


# Sizes among the other arguments of operators, from those of their tensors.


def _groups(args: list[Any], made: Sequence[tuple[int, ...]]) -> None:
    x, weight, transposed = args[0], args[1], args[6]
    channels = made[0][1] if transposed else x.shape[1]
    args[8] = max(1, channels // weight.shape[1])


def _normalized_shape(args: list[Any], made: Sequence[tuple[int, ...]]) -> None:
    args[1] = list(made[0][-len(args[1]) :])


def _group_norm(args: list[Any], made: Sequence[tuple[int, ...]]) -> None:
    batch, channels, *space = made[0]
    args[3:7] = [batch, channels, prod(space), gcd(channels, args[6])]


_SIZES: Mapping[Any, Callable[[list[Any], Sequence[tuple[int, ...]]], None]] = {
    aten.convolution.default: _groups,
    aten.native_layer_norm.default: _normalized_shape,
    aten._fused_rms_norm.default: _normalized_shape,
    aten.native_group_norm.default: _group_norm,
}
