"""The operators of a captured forward that take time, each as something that can run alone at any axis sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from secateur.spec.expr import Expr, axes_of, size_of
from secateur.structure import Traced
from secateur.structure.freeze import Names
from secateur.structure.program import Op, Program, Ref, refs

aten = torch.ops.aten

_TURNING = (aten.t.default, aten.transpose.int, aten.permute.default)
"""Views that change strides and name no size: what reads them is timed on the same strides."""

_FREE = (aten._unsafe_view.default,)
"""Views that do not say so in their schema."""


@dataclass(frozen=True)
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

    def __str__(self) -> str:
        turned = "".join(f".{turn._schema.name.removeprefix('aten::')}{list(rest)}" for turn, rest in self.turns)
        return f"{str(self.dtype).removeprefix('torch.')}{list(self.shape)}{turned}".replace(" ", "")


@dataclass(frozen=True)
class Case:
    """One call of an operator at given sizes. `args` and `kwargs` hold a `Sample` where the call had a tensor."""

    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The same for all calls that take the same time on a device."""
        given = [_described(value) for value in self.args]
        given += [f"{name}={_described(value)}" for name, value in self.kwargs.items()]
        return f"{_name(self.target)}({','.join(given)})"

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The tensors that it reads."""
        return tuple(_samples((self.args, tuple(self.kwargs.values()))))

    def prepare(self, device: torch.device) -> Callable[[], object]:
        """The call on real tensors, ready to run any number of times."""
        args = _filled(self.args, device)
        kwargs = {name: _filled(value, device) for name, value in self.kwargs.items()}
        return lambda: self.target(*args, **kwargs)


def _name(target: Callable[..., Any]) -> str:
    return str(target) if isinstance(target, torch._ops.OpOverload) else target.__name__


def _described(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(_described(item) for item in value)}]"
    return str(value)


def _samples(value: Any) -> Iterator[Sample]:
    if isinstance(value, Sample):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _samples(item)


def _filled(value: Any, device: torch.device) -> Any:
    if isinstance(value, Sample):
        return value.make(device)
    if isinstance(value, list | tuple):
        made = [_filled(item, device) for item in value]
        return made if isinstance(value, list) else tuple(made)
    if isinstance(value, torch.device):
        return device  # the capture ran on another one
    return value


class Operator:
    """An operator of the program as a function of the axis sizes."""

    def __init__(
        self, target: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], where: _Place
    ) -> None:
        self.target, self.args, self.kwargs = target, args, kwargs
        self.home = where.home
        """The block that it leaves with, if any."""
        self.dims = {number: where.program.dims(number) for number in {*refs([args, dict(kwargs)]), *where.made}}
        self._made = where.made
        self._program = where.program
        mentioned = {axis for dims in self.dims.values() for dim in dims for axis in axes_of(dim)}
        self.axes: tuple[str, ...] = tuple(sorted(mentioned))

    def at(self, sizes: Mapping[str, int]) -> Case:
        """The call when its axes have these sizes."""
        args = [self._with_samples(value, sizes) for value in self.args]
        made = [tuple(size_of(dim, sizes) for dim in self.dims[number]) for number in self._made]
        resize = _SIZES.get(self.target)
        if resize is not None:
            resize(args, made)
        kwargs = {name: self._with_samples(value, sizes) for name, value in self.kwargs.items()}
        return Case(self.target, tuple(args), kwargs)

    def elements(self, sizes: Mapping[str, int]) -> int:
        """Numbers that it reads and writes."""
        return sum(prod(size_of(dim, sizes) for dim in dims) for dims in self.dims.values())

    def _with_samples(self, value: Any, sizes: Mapping[str, int]) -> Any:
        if isinstance(value, Ref):
            return self._program.sample(value.id, sizes)
        if isinstance(value, list | tuple):
            made = [self._with_samples(item, sizes) for item in value]
            return made if isinstance(value, list) else tuple(made)
        if isinstance(value, bool) or value is None:
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
            turns.append((op.target, tuple(_plain(value) for value in op.args[1:])))
            number = op.args[0].id
        shape = tuple(size_of(dim, sizes) for dim in self.dims(number))
        return Sample(shape, self.program.dtypes[number], tuple(reversed(turns)))


def _plain(value: Any) -> Any:
    return tuple(int(item) for item in value) if isinstance(value, list | tuple) else int(value)


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
                found.append(Operator(call.function, call.args, call.kwargs, place))
        elif _takes_time(op):
            made = tuple(output for output in op.outputs if output >= 0)
            found.append(Operator(op.target, op.args, op.kwargs, _Place(program, made, homes.get(number))))
    return found


def _takes_time(op: Op) -> bool:
    """Whether it computes or copies; views do not, nor do tensors that are made from nothing."""
    aliases = [made.alias_info for made in op.target._schema.returns]
    view = bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)
    return bool(op.reads) and not view and op.target not in _FREE


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
