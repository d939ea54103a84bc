"""Walk along a captured program while the model's forward runs again, with other values or another batch size."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from secateur.structure.freeze import Names
from secateur.structure.trace import Traced


class Diverged(Exception):
    """The forward ran other operators than when it was captured."""


class Following(TorchDispatchMode):
    """Hands each operator that reduces over an axis to `meet`, with its number in the captured program.

    Reductions come in the same order as when the program was captured, though views and copies between them depend on
    strides. Raises Diverged when they do not.
    """

    def __init__(self, traced: Traced) -> None:
        super().__init__()
        self.program = traced.program
        self.tracker = traced.tracker
        self.names = Names(traced.tracker.named)
        self.reducing = {self.program.ops[number].target for number in self.tracker.reductions}
        self.expected = [number for number, op in enumerate(self.program.ops) if op.target in self.reducing]
        self.position = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in self.reducing:
            return func(*args, **(kwargs or {}))
        return self.meet(self._next(func), func, list(args), kwargs or {})

    @abstractmethod
    def meet(self, number: int, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run operator `number` of the program, and do what this walk is for; returns its output."""

    def _next(self, func: Any) -> int:
        self.position += 1
        if self.position > len(self.expected):
            raise Diverged(f"a {func} that the capture did not have")
        number = self.expected[self.position - 1]
        if self.program.ops[number].target is not func:
            raise Diverged(f"a {func} where the capture had a {self.program.ops[number].target}")
        return number

    def demand_end(self) -> None:
        """Raise Diverged when reductions of the capture did not come."""
        if self.position < len(self.expected):
            raise Diverged(f"{len(self.expected) - self.position} reductions of the capture did not come")
