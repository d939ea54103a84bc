"""Copies of a model's Python objects with other tensors in them: the structure of the copy costs no memory for
weights."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from secateur.spec import TraceError


class NamedTensor(NamedTuple):
    """A tensor that the model holds."""

    name: str
    kind: Literal["parameter", "buffer", "attribute"]
    tensor: torch.Tensor
    persistent: bool = True
    """Whether it belongs to the model's state; others are made anew, and may take other shapes, as it runs."""


def named_tensors(model: nn.Module) -> Iterator[NamedTensor]:
    """Every parameter, buffer and plain tensor attribute, shared ones once (under their first name)."""
    seen: set[int] = set()
    for found in _all_named_tensors(model):
        if id(found.tensor) not in seen:
            seen.add(id(found.tensor))
            yield found


def _all_named_tensors(model: nn.Module) -> Iterator[NamedTensor]:
    modules = [(f"{path}." if path else "", module) for path, module in model.named_modules()]
    for prefix, module in modules:
        for key, parameter in module._parameters.items():
            if parameter is not None:
                yield NamedTensor(prefix + key, "parameter", parameter)
    for prefix, module in modules:
        for key, buffer in module._buffers.items():
            if buffer is not None:
                yield NamedTensor(prefix + key, "buffer", buffer, key not in module._non_persistent_buffers_set)
    for prefix, module in modules:
        for key, value in vars(module).items():
            if (type(value) in _HOLDERS and key not in _OWN_TABLES) or isinstance(value, torch.Tensor):
                yield from _attribute_tensors(prefix + key, value)


_HOLDERS = (list, tuple, dict)
_OWN_TABLES = ("_parameters", "_buffers", "_modules")


def _attribute_tensors(name: str, value: Any) -> Iterator[NamedTensor]:
    if isinstance(value, torch.Tensor):
        yield NamedTensor(name, "attribute", value, persistent=False)
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            if isinstance(item, torch.Tensor):
                yield NamedTensor(f"{name}[{index}]", "attribute", item, persistent=False)
    elif type(value) is dict:
        for key, item in value.items():
            if isinstance(item, torch.Tensor):
                yield NamedTensor(f"{name}[{key!r}]", "attribute", item, persistent=False)


def forget_unknown(model: nn.Module, known: Collection[str]) -> None:
    """Empty the modules' own caches, dicts of tensors, of those whose names are not known."""
    for path, module in model.named_modules():
        for key, value in vars(module).items():
            if type(value) is dict and key not in _OWN_TABLES:
                name = f"{path}.{key}" if path else key
                for found in list(_attribute_tensors(name, value)):
                    if found.name not in known:
                        value.pop(next(item for item, tensor in value.items() if tensor is found.tensor))


class _Substitution(TorchFunctionMode):
    """Replaces the tensors that `copy.deepcopy` meets and that no memo entry replaces."""

    def __init__(self, substitute: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.substitute = substitute

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "__deepcopy__":
            tensor, memo = args
            if id(tensor) not in memo:
                memo[id(tensor)] = self.substitute(tensor)
            return memo[id(tensor)]
        return func(*args, **(kwargs or {}))


def clone_with(model: nn.Module, substitute: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    """A copy of the model that holds `substitute(tensor)` in place of each tensor; parameters stay parameters.

    Raises TraceError when the model's Python objects cannot be copied.
    """
    memo: dict[int, Any] = {}
    for found in named_tensors(model):
        memo[id(found.tensor)] = _as(found.tensor, substitute(found.tensor))
    try:
        with _Substitution(substitute):
            return _copied(model, memo)
    except _COPY_ERRORS as error:
        raise TraceError(
            f"{type(model).__name__} cannot be copied: {error}; "
            "remove what cannot be copied (locks, open files, generators) from its attributes before pruning"
        ) from error


def clone(model: nn.Module) -> nn.Module:
    """A copy of the model with tensors of its own; raises as `clone_with` does."""
    return clone_with(model, lambda tensor: tensor.detach().clone())


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """What `copy.deepcopy` gives, several times faster for modules that leave copying to Python."""
    kind: Any = type(value)
    if kind in _IMMUTABLE or (kind is tuple and all(type(item) in _IMMUTABLE for item in value)):
        return value
    made = memo.get(id(value))
    if made is not None:
        return made
    if kind is dict:
        made = memo[id(value)] = {}
        made.update((key, _copied(item, memo)) for key, item in value.items())
    elif isinstance(value, nn.Module) and _is_copied_plainly(type(value)):
        made = memo[id(value)] = kind.__new__(kind)
        made.__dict__.update((name, _copied(item, memo)) for name, item in vars(value).items())
    elif kind in (OrderedDict, set, list) and not value:
        made = memo[id(value)] = kind()
    else:
        made = copy.deepcopy(value, memo)
    return made


def _is_copied_plainly(kind: type[nn.Module]) -> bool:
    """Whether a copy is what copies of its attributes make. (What convolutions do is for files of old torch.)"""
    hooks = ((name, getattr(kind, name, None)) for name in _COPY_HOOKS)
    return all(hook in (getattr(nn.Module, name, None), nn.Conv2d.__setstate__) for name, hook in hooks)


_COPY_HOOKS = ("__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__new__", "__copy__")
_IMMUTABLE = frozenset((int, float, bool, str, type(None), torch.dtype, torch.device, type))
_COPY_ERRORS = (TypeError, AttributeError, RecursionError, RuntimeError)


def _as(original: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    if isinstance(original, nn.Parameter) and not isinstance(made, nn.Parameter):
        return nn.Parameter(made, requires_grad=original.requires_grad)
    return made


def meta_like(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of the same shape, strides and dtype without memory."""
    if tensor.device.type == "meta":
        return tensor.detach()
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")
