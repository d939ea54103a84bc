"""What is added to a layer's output further on, so that the layer can make up for what is wrong with the rest.

In a residual block the last layer's output, scaled by a BatchNorm or a layer scale, is added to the shortcut. When the
shortcut is off, because of what was cut before, the layer is fitted to what the sum lacks. The addition and its other
operand are read off a captured program, and the operand's values are kept while the forward runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from secateur.structure.program import Op, Program, Ref, last_reads
from secateur.structure.weights import weights_read

aten = torch.ops.aten
_AS_IT_IS = (aten.view.default, aten._unsafe_view.default, aten.clone.default, aten.dropout.default)


@dataclass(frozen=True)
class Shortcut:
    """The other operand of the sum that a layer's output goes into."""

    operand: int
    """Its number in the program; made before the layer is called."""
    norm: str | None = None
    """Prefix of the tensors of the BatchNorm in between."""
    eps: float = 0.0
    scale: str | None = None
    """The parameter that multiplies in between."""

    def gain(self, model: nn.Module) -> Tensor | None:
        """What a change of the layer's output is multiplied by, per output; None where by nothing."""
        held = model.state_dict(keep_vars=True)
        if self.norm is not None:
            variance, weight = held[f"{self.norm}running_var"], held.get(f"{self.norm}weight")
            gain = (variance.detach() + self.eps).rsqrt()
            return gain if weight is None else gain * weight.detach()
        return None if self.scale is None else held[self.scale].detach().flatten()


def find_shortcuts(program: Program) -> dict[str, Shortcut]:
    """By the name of the weight whose product goes into a sum, alone and through nothing but what scales outputs."""
    readers: dict[int, list[Op]] = {}
    made_at: dict[int, int] = {}
    for place, op in enumerate(program.ops):
        for number in op.reads:
            readers.setdefault(number, []).append(op)
        for number in op.outputs:
            made_at.setdefault(number, place)
    found: dict[str, Shortcut] = {}
    for place, name in weights_read(program):
        shortcut = _followed(program, program.ops[place].outputs[0], readers)
        if name not in found and shortcut is not None and made_at.get(shortcut.operand, -1) < place:
            found[name] = shortcut
    return found


def _followed(program: Program, number: int, readers: Mapping[int, list[Op]]) -> Shortcut | None:
    norm: str | None = None
    scale: str | None = None
    eps = 0.0
    while len(readers.get(number, ())) == 1:
        op = readers[number][0]
        if op.target in (aten.add.Tensor, aten.add_.Tensor):
            others = [read for read in op.reads if read != number]
            plain = (
                len(others) == 1 and not op.kwargs.get("alpha") and program.shapes[others[0]] == program.shapes[number]
            )
            return Shortcut(others[0], norm, eps, scale) if plain else None
        if op.target is aten.native_batch_norm.default and norm is None and scale is None and op.args[5] is False:
            mean = op.args[3]
            norm = program.named.get(mean.id, "").removesuffix("running_mean") if isinstance(mean, Ref) else None
            eps = float(op.args[7])
            if norm is None:
                return None
        elif op.target is aten.mul.Tensor and norm is None and scale is None:
            scale = next((program.named[read] for read in op.reads if read in program.named), None)
            if scale is None:
                return None
        elif op.target not in _AS_IT_IS:
            return None
        number = op.outputs[0]
    return None


class Keeping(TorchDispatchMode):
    """Keeps the values of some tensors of a captured program while its forward runs again, each up to its last read;
    none any more from where it runs other operators."""

    def __init__(self, program: Program, wanted: Collection[int]) -> None:
        super().__init__()
        self.program, self.wanted = program, frozenset(wanted)
        self.place = 0
        self.values: dict[int, Tensor] = {}
        self._last = last_reads(program)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        op = self.program.ops[self.place] if self.place < len(self.program.ops) else None
        if op is None or op.target is not func:
            self.place = len(self.program.ops)
            return output
        self.place += 1
        results = output if isinstance(output, list | tuple) else (output,)
        made = zip(op.outputs, results, strict=False)
        self.values.update((number, value) for number, value in made if number in self.wanted)
        for number in op.reads:
            if self._last[number] < self.place:
                self.values.pop(number, None)
        return output
