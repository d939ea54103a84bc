"""What pruning trains with: objects around the optimizer's step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable


class Method(Protocol):
    """Regularisers, sparsity schedules, tickets, masks: whatever has a hand in training.

    A loop of one's own needs one line more:

        loss.backward()
        method.step(optimizer.step)

    and `fit(..., methods=[...])` does the same.
    """

    def step(self, take: Callable[[], None]) -> None:
        """Called once per optimizer step, with the gradients of the whole batch in place.

        May change gradients, calls `take()` (the optimizer's step) exactly once, and may change weights after it.
        """
        ...


@runtime_checkable
class Stateful(Protocol):
    """A method that remembers something from step to step; checkpoints keep it, so that a killed run goes on exactly.

    The state is a flat dict of tensors and of what JSON can say (numbers, strings, None, lists of them), and no more.
    """

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any], /) -> object: ...


def nested(methods: Sequence[Method], take: Callable[[], None]) -> None:
    """One optimizer step with all methods around it: the first is the outermost, so it sees gradients first and
    weights last."""
    for method in reversed(methods):
        take = partial(method.step, take)
    take()
