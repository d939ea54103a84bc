"""Parts of a captured forward run again, with other values for some of its tensors, so that derivatives flow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from secateur.structure.capture import Inputs, tensors_in
from secateur.structure.clone import named_tensors
from secateur.structure.program import Op, Program, Ref, last_reads, out_of_place
from secateur.structure.weights import BATCH_NORMS

aten = torch.ops.aten
VIEWS = (aten.view.default, aten._unsafe_view.default)
"""What goes on one order of the numbers in memory; a replay may have them in another."""
Values = dict[int, Tensor]
"""Tensors of a program, by number."""
Seen = dict[int, tuple[Tensor, Tensor] | None]
"""By number of an operator what it read and made, once it has run."""


class Replay:
    """Runs the operators of a program on the tensors that its model holds now."""

    def __init__(self, program: Program, model: nn.Module) -> None:
        """program: captured with values from this model, or one of the same tensors."""
        self.program = program
        self._held = {found.name: found.tensor.detach() for found in named_tensors(model)}
        self._last = last_reads(program)

    def begin(self, inputs: Inputs) -> Values:
        """What is there before the first operator. Channels of images come last, which makes convolutions faster."""
        leaves = (_channels_last(leaf) for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor))
        return {**self.program.constants, **dict(zip(self.program.inputs, leaves, strict=True))}

    def run(
        self,
        values: Values,
        start: int,
        stop: int,
        named: Mapping[str, Tensor] | None = None,
        seen: Seen | None = None,
    ) -> Values:
        """What is there when the operators from `start` up to `stop` have run, as far as anything reads it further on;
        the given values are not changed.

        named: values in place of those that the model holds, by name. seen: products that are to be noted,
        whose activation and output are put there.
        """
        now, held = dict(values), self._held if named is None else {**self._held, **named}

        def value(leaf: Any) -> Any:
            if not isinstance(leaf, Ref):
                return leaf
            return now[leaf.id] if leaf.id in now else held[self.program.named[leaf.id]]

        for place in range(start, stop):
            op = self.program.ops[place]
            args, kwargs = tree_map(value, (op.args, op.kwargs), is_leaf=lambda leaf: isinstance(leaf, Ref))
            made = _made(op, args, kwargs)
            now.update(zip(op.outputs, made, strict=False))
            if seen is not None and place in seen:
                seen[place] = (args[_activation(op)], made[0])
            for number in {*op.reads, *op.outputs}:
                if self._last.get(number, -1) <= place:
                    now.pop(number, None)
        return now

    def agrees(self, output: Any, inputs: Inputs) -> bool:
        """Whether a replay of all makes what the network made of these inputs."""
        values = self.run(self.begin(inputs), 0, len(self.program.ops))
        made = [values.get(number) for number in self.program.outputs]
        wanted = list(tensors_in(output))
        return len(made) == len(wanted) and all(
            one is not None and one.shape == other.shape and torch.allclose(one, other, rtol=1e-3, atol=1e-4)
            for one, other in zip(made, wanted, strict=True)
        )


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def _made(op: Op, args: Any, kwargs: Any) -> tuple[Tensor, ...]:
    """The outputs, with derivatives towards all inputs."""
    name = op.target._schema.name
    if op.target is aten.detach.default:
        return (args[0],)
    if op.target in VIEWS:
        return (args[0].reshape(args[1]),)
    if name in BATCH_NORMS and not (name == BATCH_NORMS[0] and args[5]):
        x, weight, bias, mean, variance = args[:5]
        shape = [-1 if dim == 1 else 1 for dim in range(x.dim())]
        scale = (variance + args[-1]).rsqrt() if weight is None else (variance + args[-1]).rsqrt() * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        return (x * scale.reshape(shape) + shift.reshape(shape),)
    output = out_of_place(op.target)(*args, **kwargs)
    return tuple(output) if isinstance(output, list | tuple) else (output,)


def _activation(op: Op) -> int:
    """Which argument of a product is not its weight or bias."""
    return 1 if op.target is aten.addmm.default else 0
