"""Walk along a captured program while the model's forward runs again, with other values or another batch size."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from secateur.structure.algebra import is_pinned
from secateur.structure.capture import module_paths
from secateur.structure.freeze import Names
from secateur.structure.trace import Traced


class Diverged(Exception):
    """The forward ran other operators than when it was captured."""


class Following(TorchDispatchMode):
    """Hands each operator that reduces over an axis to `meet`, with its number in the captured program.

    In each module, reductions come in the same order as when the program was captured, though views and copies
    between them depend on strides. Raises Diverged when they do not. What a module does that reduces over no free
    axis may differ: detectors loop over as many boxes as they find.
    """

    def __init__(self, traced: Traced) -> None:
        super().__init__()
        self.program = traced.program
        self.tracker = traced.tracker
        self.names = Names(traced.tracker.named)
        reducing = {self.program.ops[number].target for number in self.tracker.reductions}
        free = {self.program.ops[number].module for number in self.tracker.reductions if self._reduces_free(number)}
        self.expected: dict[str, list[int]] = {module: [] for module in free}
        for number, op in enumerate(self.program.ops):
            if op.target in reducing and op.module in free:
                self.expected[op.module].append(number)
        self.reducing = reducing
        self.met = dict.fromkeys(free, 0)
        self.stack: list[str] = [""]

    def _reduces_free(self, number: int) -> bool:
        """Whether the operator reduces over something that can be removed."""
        op = self.program.ops[number]
        return any(
            not is_pinned(self.tracker.dims(op.args[reduction.arg].id)[dim])
            for reduction in self.tracker.reductions[number]
            for dim in reduction.dims
        )

    @contextmanager
    def following(self, model: nn.Module) -> Iterator[None]:
        """Follow the forwards of this model, a copy of the one that was captured; raises Diverged at the end when
        reductions of the capture did not come."""
        with module_paths(model, self.stack), self:
            yield
        for module, numbers in self.expected.items():
            if self.met[module] < len(numbers):
                missing = len(numbers) - self.met[module]
                raise Diverged(f"{missing} reductions of the capture did not come in {module or '(model)'}")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        module = self.stack[-1]
        if func not in self.reducing or module not in self.expected:
            return func(*args, **(kwargs or {}))
        return self.meet(self._next(module, func), func, list(args), kwargs or {})

    @abstractmethod
    def meet(self, number: int, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run operator `number` of the program, and do what this walk is for; returns its output."""

    def _next(self, module: str, func: Any) -> int:
        numbers, position = self.expected[module], self.met[module]
        if position == len(numbers):
            raise Diverged(f"a {func} that the capture did not have in {module or '(model)'}")
        number = numbers[position]
        if self.program.ops[number].target is not func:
            raise Diverged(
                f"a {func} where the capture had a {self.program.ops[number].target} in {module or '(model)'}"
            )
        self.met[module] += 1
        return number
