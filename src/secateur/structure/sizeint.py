"""Integers that remember where they came from.

During a capture, the sizes that a model's code reads (from a tensor's shape, or from an integer attribute of a
module) are `SizeInt`s: plain ints to everyone, but arithmetic on them keeps the expression. Where such a number is
handed to a torch function as a size, it says which attribute has to follow which axis.

Origins are nested tuples: `("dim", tensor, dimension)`, `("attribute", module, name, index)`, `("constant", n)`, or an
operator `+ - * //` with two of these.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

Origin = tuple[Any, ...]


class Ledger:
    """What happened to sizes during one capture."""

    def __init__(self) -> None:
        self.equalities: list[tuple[Origin, Origin, str]] = []
        self.differences: list[tuple[Origin, Origin]] = []
        """Pairs of sizes that code found to differ."""
        self.number_uses: list[tuple[Origin, str]] = []
        self.converted: dict[int, Origin] = {}
        """Values that `int(size / other)` gave: Python makes plain ints of them, so they are known by value."""

    def recall(self, value: Any) -> Any:
        """The argument with converted sizes in place of plain ints of the same value."""
        if type(value) is int and value in self.converted:
            return SizeInt(value, self.converted[value])
        if isinstance(value, tuple | list) and self.converted:
            recalled = [self.recall(item) for item in value]
            return recalled if isinstance(value, list) else tuple(recalled)
        return value


_LEDGER: ContextVar[Ledger | None] = ContextVar("ledger", default=None)


@contextmanager
def recording(ledger: Ledger) -> Iterator[None]:
    """Record comparisons and conversions of sizes into the ledger."""
    token = _LEDGER.set(ledger)
    plain = math.sqrt
    math.sqrt = lambda value, /: _square_root(value, plain)
    try:
        yield
    finally:
        math.sqrt = plain
        _LEDGER.reset(token)


def _square_root(value: Any, plain: Callable[[Any], float]) -> float:
    """`math.sqrt`, which is how much code writes the scale of attention."""
    return SizeFloat(plain(int(value)), value.origin, 0.5) if isinstance(value, SizeInt) else plain(value)


class SizeInt(int):
    """An int with an `origin`."""

    origin: Origin

    def __new__(cls, value: int, origin: Origin) -> SizeInt:
        made = int.__new__(cls, value)
        made.origin = origin
        return made

    def __eq__(self, other: object) -> bool:
        equal = int.__eq__(self, other)  # pyright: ignore[reportArgumentType]
        ledger = _LEDGER.get()
        if equal is True and ledger is not None and self > 1 and isinstance(other, int):
            theirs = origin_of(other)
            # Torch's own checks compare with plain sizes that nothing tracks.
            tracked = isinstance(other, SizeInt) or not is_machinery(sys._getframe(1).f_code.co_filename)
            if tracked and theirs != self.origin:
                ledger.equalities.append((self.origin, theirs, where()))
        elif ledger is not None and isinstance(other, SizeInt):
            ledger.differences.append((self.origin, other.origin))
        return equal

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    __hash__ = int.__hash__

    def __float__(self) -> float:
        self._becomes_a_number()
        return float(int(self))

    def __truediv__(self, other: Any) -> Any:
        if isinstance(other, int) and other > 0 and int(self) % int(other) == 0:
            return SizeFloat(int(self) / int(other), ("//", self.origin, origin_of(other)), 1.0)
        return _number(self, other, int.__truediv__)

    def __rtruediv__(self, other: Any) -> Any:
        return _number(self, other, int.__rtruediv__)

    def __pow__(self, other: Any, modulus: int | None = None) -> Any:
        if isinstance(other, float) or (isinstance(other, int) and other < 0):
            return SizeFloat(float(int(self)) ** other, self.origin, float(other))
        return _number(self, other, int.__pow__)

    def __neg__(self) -> SizeInt:
        return SizeInt(-int(self), ("-", ("constant", 0), self.origin))

    def _becomes_a_number(self) -> None:
        ledger = _LEDGER.get()
        if ledger is not None:
            ledger.number_uses.append((self.origin, where()))

    def __deepcopy__(self, memo: dict[int, Any]) -> int:
        return int(self)

    def __reduce__(self) -> Any:
        return int, (int(self),)


class SizeFloat(float):
    """A number times a power of a size, `size ** power`, as scales are computed."""

    origin: Origin
    power: float

    def __new__(cls, value: float, origin: Origin, power: float) -> SizeFloat:
        made = float.__new__(cls, value)
        made.origin = origin
        made.power = power
        return made

    def __int__(self) -> int:
        value = float.__int__(self)
        ledger = _LEDGER.get()
        if ledger is not None and self.power == 1.0 and value > 1:
            ledger.converted[value] = self.origin
        return value

    __trunc__ = __floor__ = __int__

    def __mul__(self, other: Any) -> Any:
        return self._scaled(float.__mul__, other, 1.0)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return self._scaled(float.__truediv__, other, 1.0)

    def __rtruediv__(self, other: Any) -> Any:
        return self._scaled(float.__rtruediv__, other, -1.0)

    def __pow__(self, other: Any, _: None = None) -> Any:
        return self._scaled(float.__pow__, other, float(other) if type(other) in (int, float) else 1.0)

    def _scaled(self, operation: Callable[[float, Any], Any], other: Any, power: float) -> Any:
        """A plain factor changes nothing in how the number follows the size."""
        if type(other) in (int, float):
            return SizeFloat(operation(float(self), other), self.origin, self.power * power)
        return self._mixed(operation, other)

    def _mixed(self, operation: Callable[[float, Any], Any], other: Any) -> Any:
        ledger = _LEDGER.get()
        if ledger is not None and isinstance(other, int | float):
            ledger.number_uses.append((self.origin, where()))
        return operation(float(self), other)


for _name in ("add", "radd", "sub", "rsub", "rpow"):
    _plain = getattr(float, f"__{_name}__")
    setattr(SizeFloat, f"__{_name}__", lambda self, other, plain=_plain: self._mixed(plain, other))


def _number(size: SizeInt, other: Any, operation: Callable[[int, Any], Any]) -> Any:
    size._becomes_a_number()
    if isinstance(other, int):
        return operation(int(size), int(other))
    return NotImplemented


def _arithmetic(symbol: str, operation: Callable[[int, int], int], *, swapped: bool) -> Callable[[SizeInt, Any], Any]:
    def compute(self: SizeInt, other: Any) -> Any:
        if not isinstance(other, int) or isinstance(other, bool):
            return NotImplemented
        mine, theirs = self.origin, origin_of(other)
        if swapped:
            return SizeInt(operation(int(other), int(self)), (symbol, theirs, mine))
        return SizeInt(operation(int(self), int(other)), (symbol, mine, theirs))

    return compute


def _comparison(operation: Callable[[int, int], bool]) -> Callable[[SizeInt, Any], Any]:
    """Code that asks how large a size is may go another way when it is smaller."""

    def compare(self: SizeInt, other: Any) -> Any:
        if isinstance(other, int) and not is_machinery(sys._getframe(1).f_code.co_filename):
            self._becomes_a_number()
        return operation(int(self), other)

    return compare


for _name in ("lt", "le", "gt", "ge"):
    setattr(SizeInt, f"__{_name}__", _comparison(getattr(int, f"__{_name}__")))

for _symbol, _name, _operation in (
    ("+", "add", int.__add__),
    ("-", "sub", int.__sub__),
    ("*", "mul", int.__mul__),
    ("//", "floordiv", int.__floordiv__),
):
    setattr(SizeInt, f"__{_name}__", _arithmetic(_symbol, _operation, swapped=False))
    setattr(SizeInt, f"__r{_name}__", _arithmetic(_symbol, _operation, swapped=True))


def origin_of(value: int) -> Origin:
    """Where the number came from; a plain int is a constant of the code."""
    return value.origin if isinstance(value, SizeInt) else ("constant", int(value))


def shape_of(shape: torch.Size, tensor: int) -> torch.Size:
    """The shape with entries that remember the tensor."""
    return torch.Size([SizeInt(size, ("dim", tensor, dim)) for dim, size in enumerate(shape)])


def where() -> str:
    """File and line of the innermost frame that is neither torch's nor Secateur's."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not is_machinery(name):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


_OWN = __file__.rsplit("/", 2)[0] + "/"
_TORCH = torch.__file__.rsplit("/", 1)[0] + "/"


def is_machinery(filename: str) -> bool:
    """Whether the file belongs to torch, to Secateur, or is no file."""
    return filename.startswith((_TORCH, _OWN, "<"))
