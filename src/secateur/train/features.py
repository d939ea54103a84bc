"""Which modules of a pruned network give what those of the dense one give: the outputs of residual blocks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from secateur.spec import ModelError
from secateur.structure import trace
from secateur.structure.capture import attached, call_model, normalise_inputs
from secateur.structure.modes import eval_mode
from secateur.train.distillation import Pair, feature_of


def block_features(student: nn.Module, teacher: nn.Module, example_inputs: Any) -> tuple[Pair, ...]:
    """(module of the student, module of the teacher) for each residual block whose output has the same shape in both.

    Cuts inside a block leave its output as it is. Where blocks left a list, those that stayed have moved up, so its
    last ones stand for each other, and no others. Raises ModelError where no block remains: name modules instead.
    """
    paths = [block.module for block in trace(teacher, example_inputs).blocks]
    pairs = list(dict.fromkeys(pair for path in paths for pair in _pair(path, student, teacher)))
    own, wanted = (_shapes(model, example_inputs) for model in (student, teacher))
    found = tuple((a, b) for a, b in pairs if a in own and own[a] == wanted.get(b))
    if not found:
        raise ModelError(
            f"no features to learn from: {len(paths)} residual blocks were found, and none gives outputs of the same "
            "shape in both networks; name pairs of modules that do, or leave features out"
        )
    return found


def _pair(path: str, student: nn.Module, teacher: nn.Module) -> Iterable[Pair]:
    parent = path.rpartition(".")[0]
    if parent not in dict(student.named_modules()):
        return []
    mine, theirs = ([name for name, _ in model.get_submodule(parent).named_children()] for model in (student, teacher))
    if len(mine) == len(theirs):
        return [(path, path)]
    return [(f"{parent}.{mine[-1]}", f"{parent}.{theirs[-1]}")] if mine else []


def _shapes(model: nn.Module, example_inputs: Any) -> dict[str, tuple[int, ...]]:
    """Of what each module gives, by name, where that is a tensor or starts with one."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor | list | tuple):
                shapes[name] = tuple(feature_of(output).shape)

        return hook

    hooks = (module.register_forward_hook(note(name)) for name, module in model.named_modules())
    with attached(hooks), torch.no_grad(), eval_mode(model):
        call_model(model, normalise_inputs(example_inputs))
    return shapes
