"""What a model's forward reads in place of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

Seen = Callable[[bool], Mapping[str, Tensor]]
"""From whether the model is in train mode to values by name of a parameter; a value may be a function of it, so that
gradients flow on."""


class Reading:
    """While the model runs, its parameters read as `seen` says; parameters that it does not name read as they are.

    The parameters themselves, and what optimizers and `state_dict` see, stay as they are. Gates and dropout on weights
    are built on it. Works through plain attributes: recurrent layers of torch, which hold their weights in a list too,
    read them as they are.
    """

    def __init__(self, model: nn.Module, seen: Seen) -> None:
        self._model, self._seen = model, seen
        self._handles = [
            model.register_forward_pre_hook(self._put),
            model.register_forward_hook(self._take_back, always_call=True),
        ]

    def remove(self) -> None:
        """For good."""
        for handle in self._handles:
            handle.remove()

    def _put(self, *_: Any) -> None:
        changed = self._seen(self._model.training)
        by_id = {id(self._model.get_parameter(name)): value for name, value in changed.items()}
        for module in self._model.modules():
            for leaf, parameter in module._parameters.items():
                if id(parameter) in by_id:
                    vars(module)[leaf] = by_id[id(parameter)]  # found before the parameter of that name

    def _take_back(self, *_: Any) -> None:
        for module in self._model.modules():
            for leaf in module._parameters:
                vars(module).pop(leaf, None)
