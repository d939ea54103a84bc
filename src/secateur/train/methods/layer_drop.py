"""LayerDrop: residual blocks that are left out at random while a network trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from secateur.spec import BudgetError, Plan, Structure
from secateur.surgery.bypass import pass_on


class LayerDrop:
    """In train mode each residual block that may leave passes its input on with probability `rate`, drawn for every
    forward with torch's global generator (Reducing Transformer Depth on Demand with Structured Dropout, 2020). Blocks
    are those of the structure, in any network; what they make is thrown away, so no time is saved. Nothing is scaled.

    Raises BudgetError where no block may leave, and for a rate outside [0, 1).
    """

    def __init__(self, model: nn.Module, structure: Structure, *, rate: float = 0.2) -> None:
        self.structure = structure
        self.blocks = tuple(block for block in structure.blocks if structure.axis[block.axis].pin is None)
        if not self.blocks or not 0 <= rate < 1:
            raise BudgetError(
                f"LayerDrop: got rate={rate} and {len(self.blocks)} residual blocks that may leave; "
                "expected a rate in [0, 1) and at least one block (secateur inspect --why says what holds them)"
            )
        self._rate = rate
        modules = [model.get_submodule(block.module) for block in self.blocks]
        self._handles = [module.register_forward_hook(self._maybe, with_kwargs=True) for module in modules]

    def _maybe(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        dropped = module.training and float(torch.rand(())) < self._rate
        return pass_on(module, args, kwargs, output) if dropped else output

    def step(self, take: Callable[[], None]) -> None:
        take()

    def finish(self) -> None:
        """Leave no block out any more."""
        for handle in self._handles:
            handle.remove()

    def every_other(self, share: float) -> Plan:
        """The paper's choice of the blocks that go: those whose number, from 1, is a multiple of `floor(1 / share)`, of
        a half every second one. Raises BudgetError for a share outside (0, 0.5]."""
        if not 0 < share <= 0.5:
            raise BudgetError(f"LayerDrop: got share={share} of the blocks, expected above 0 and at most 0.5")
        apart = int(1 / share)
        going = [block for number, block in enumerate(self.blocks, 1) if number % apart == 0]
        return Plan(self.structure, {block.axis: () for block in going}, {"criterion": "every-other"})
