"""Which modules of a pruned network give what those of the dense one give: the outputs of residual blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from secateur.spec import ModelError, Plan, PlanError
from secateur.spec.expr import kept_of
from secateur.store import history_of
from secateur.structure import Traced, trace
from secateur.structure.capture import Inputs, attached, call_model, normalise_inputs
from secateur.structure.freeze import Names
from secateur.structure.modes import eval_mode
from secateur.structure.trace import trace_program
from secateur.surgery.shrink import shrink
from secateur.train.distillation import Pair, feature_of


def block_features(student: nn.Module, teacher: nn.Module, example_inputs: Any) -> tuple[Pair, ...]:
    """For each residual block whose output both networks have: the module of the student, that of the teacher, and
    which of the teacher's channels are left in the student, where not all are.

    Cuts inside a block leave its output as it is. Where channels of the output went, too, the plans that the student
    remembers tell which. Where blocks left a list, those that stayed have moved up, so its last ones stand for each
    other, and no others. Raises ModelError where no block remains: name modules instead.
    """
    paths = [block.module for block in trace(teacher, example_inputs).blocks]
    pairs = list(dict.fromkeys(pair for path in paths for pair in _pair(path, student, teacher)))
    own, wanted = (_shapes(model, example_inputs) for model in (student, teacher))
    plans = history_of(student)[len(history_of(teacher)) :]
    left = _Left(teacher, plans, normalise_inputs(example_inputs))
    found: list[Pair] = []
    for mine, other in pairs:
        if mine in own and own[mine] == wanted.get(other):
            found.append(Pair(mine, other))
        elif mine in own and mine == other and other in wanted:
            kept = left.of(other)
            if tuple(len(kept.get(dim, range(size))) for dim, size in enumerate(wanted[other])) == own[mine]:
                found.append(Pair(mine, other, kept))
    if not found:
        raise ModelError(
            f"no features to learn from: {len(paths)} residual blocks were found, and none gives outputs of the same "
            "shape in both networks; name pairs of modules that do, or leave features out"
        )
    return tuple(found)


def _pair(path: str, student: nn.Module, teacher: nn.Module) -> Iterable[tuple[str, str]]:
    parent = path.rpartition(".")[0]
    if parent not in dict(student.named_modules()):
        return []
    mine, theirs = ([name for name, _ in model.get_submodule(parent).named_children()] for model in (student, teacher))
    if len(mine) == len(theirs):
        return [(path, path)]
    return [(f"{parent}.{mine[-1]}", f"{parent}.{theirs[-1]}")] if mine else []


class _Left:
    """What is left of the outputs of blocks, after the cuts that lead from the teacher to the student."""

    def __init__(self, teacher: nn.Module, plans: Sequence[Plan], inputs: Inputs) -> None:
        self._teacher, self._plans, self._inputs = teacher, plans, inputs

    def of(self, path: str) -> dict[int, Tensor]:
        """By dimension the positions that stay, of those where not all do; nothing where the plans are of other
        networks."""
        kept: dict[int, Tensor] = {}
        for plan, traced in self._rounds:
            call = next((call for call in traced.program.blocks if call.path == path), None)
            if call is None:
                return {}
            names = Names(traced.tracker.named)
            for dim, node in enumerate(traced.tracker.dims(call.made)):
                structure = plan.structure
                positions = kept_of(names.expr(node), plan.arrays, structure.sizes, structure.within)
                if positions is not None:
                    stay = torch.from_numpy(positions)
                    kept[dim] = kept[dim][stay] if dim in kept else stay
        return kept

    @cached_property
    def _rounds(self) -> list[tuple[Plan, Traced]]:
        """Each plan with the network that it was made for."""
        rounds: list[tuple[Plan, Traced]] = []
        network = self._teacher
        for plan in self._plans:
            try:
                traced = trace_program(network, self._inputs)
                network = shrink(network, plan)
            except PlanError:
                return []
            rounds.append((plan, traced))
        return rounds


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
