"""What goes: targets choose, from the values that weights have, which of them a share of the network would lose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from secateur.sparse import WEIGHT_ALLOCATORS, Pattern, prunable_weights
from secateur.sparse.making import Request, make_masks
from secateur.sparse.masks import Masks, layouts
from secateur.spec import BudgetError, ScoreError
from secateur.train.methods.state import under

Values = Mapping[str, Tensor]


class Target(Protocol):
    """What a schedule, a penalty or ADMM drives towards zero."""

    weights: Mapping[str, nn.Parameter]
    """The parameters that it may choose from."""
    share: float
    """That goes in the end, in [0, 1)."""
    rises: bool
    """Whether less than that can be asked for; not of N:M."""

    def see(self, values: Values) -> None:
        """Called before each optimizer step, with the gradients in place; `values` as in `masks`."""
        ...

    def masks(self, values: Values, share: float | None = None) -> Masks:
        """False at what goes, in the weights' shapes; for the final share, where none is given.

        values: of all `weights`, and of others, which stay; of removed ones what they would be by now.
        """
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any], /) -> object: ...


class Weights:
    """The smallest weights, in a pattern: `element`, N:M, `block:RxC`, `kernel`, `row` or `column`."""

    def __init__(
        self,
        model: nn.Module,
        *,
        sparsity: float | None = None,
        granularity: str = "element",
        allocator: str = "global",
    ) -> None:
        """sparsity: share of the prunable weights that goes in the end, in [0, 1); None for N:M, which says it itself.

        Raises BudgetError for another sparsity, or one beside N:M; SelectorError for an unknown granularity.
        """
        self.pattern = Pattern.parse(granularity)
        group = self.pattern.keep_per_group
        if (sparsity is None) != (group is not None) or (sparsity is not None and not 0 <= sparsity < 1):
            raise BudgetError(
                f"granularity {granularity}: got sparsity={sparsity}; expected a sparsity in [0, 1), and none for N:M, "
                "whose share cannot rise"
            )
        self.weights: Mapping[str, nn.Parameter] = prunable_weights(model)
        self.rises = group is None
        self.share: float = sparsity if group is None else 1 - group[0] / group[1]  # type: ignore[assignment]
        self._layouts = layouts(model)
        self.allocator = WEIGHT_ALLOCATORS.get(allocator)

    def see(self, values: Values) -> None:
        """Magnitudes need no watching."""

    def scores(self, values: Values, /) -> Values:
        """Of each weight; the lowest go."""
        return {name: value.abs() for name, value in values.items()}

    def masks(self, values: Values, share: float | None = None) -> Masks:
        asked = (self.share if share is None else share) if self.rises else None
        own = {name: values[name] for name in self.weights}
        return make_masks(self.scores(own), own, self._layouts, Request(self.pattern, asked, self.allocator, {}))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """There is none."""


class WeightsByMovement(Weights):
    """The weights that training moves towards zero: the sum of minus weight times gradient over all steps (Movement
    Pruning, 2020, eq. 2, hard). Without the learning rate, which changes no order while it is constant. In the paper a
    removed weight keeps its value while its score goes on; under a schedule with memory it goes on learning too."""

    _sums: dict[str, Tensor] | None = None

    def see(self, values: Values) -> None:
        if self._sums is None:
            self._sums = {name: torch.zeros_like(value) for name, value in values.items()}
        for name, weight in self.weights.items():
            if weight.grad is not None:
                self._sums[name].addcmul_(values[name], weight.grad, value=-1)

    def scores(self, _values: Values, /) -> Values:
        if self._sums is None:
            raise ScoreError("movement has seen no gradient; it is for what trains: call see() before each step")
        return self._sums

    def state_dict(self) -> dict[str, Any]:
        return dict(self._sums or {})

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        self._sums = under("", state, self.weights) or None
