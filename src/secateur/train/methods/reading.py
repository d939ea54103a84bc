"""What a model's forward reads in place of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

Factors = Callable[[bool], Mapping[str, Tensor]]
"""From whether the model is in train mode to factors by name of a parameter, of shapes that broadcast to its own."""


class Reading:
    """While the model runs, its parameters read as if multiplied by these factors; several such objects multiply.

    The parameters themselves, and what optimizers and `state_dict` see, stay as they are; gradients flow to them and to
    the factors; copies of the model (an average of its weights, say) read alike. Gates and dropout on weights are built
    on it. Works through plain attributes: recurrent layers of torch, which hold their weights in a list too, read them
    as they are.
    """

    def __init__(self, model: nn.Module, factors: Factors) -> None:
        self._factors = factors
        self._handles = [
            model.register_forward_pre_hook(self._put),
            model.register_forward_hook(self._take_back, always_call=True),
        ]

    def remove(self) -> None:
        """For good."""
        for handle in self._handles:
            handle.remove()

    def _put(self, model: nn.Module, _: Any) -> None:
        factors = self._factors(model.training)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        for module in model.modules():
            for leaf, parameter in module._parameters.items():
                name = names.get(id(parameter), "")
                if name in factors:
                    # found before the parameter of that name
                    vars(module)[leaf] = getattr(module, leaf) * factors[name]

    def _take_back(self, model: nn.Module, *_: Any) -> None:
        for module in model.modules():
            for leaf in module._parameters:
                vars(module).pop(leaf, None)

    def __deepcopy__(self, _: Any) -> Reading:
        return self
