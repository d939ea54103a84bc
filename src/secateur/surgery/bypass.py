"""Blocks that pass their input on: what a network does that has lost them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from torch import nn
from torch.utils._pytree import tree_map

from secateur.spec import Block
from secateur.structure.capture import attached, first_tensor


def bypassed(model: nn.Module, blocks: Iterable[Block]) -> AbstractContextManager[None]:
    """Let each of these blocks run as ever, and return its input in place of its output."""
    return attached(
        model.get_submodule(block.module).register_forward_hook(pass_on, with_kwargs=True) for block in blocks
    )


def pass_on(_: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
    """A forward hook: the output of a block with its input in place of the first tensor."""
    made, given = first_tensor(output), first_tensor((args, kwargs))
    return tree_map(lambda leaf: given if leaf is made else leaf, output)
