"""What residual blocks do to what passes through them, measured on a forward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from secateur.score.statistics import Statistics
from secateur.spec import Block
from secateur.structure.capture import first_tensor


@contextmanager
def watching_blocks(model: nn.Module, blocks: Sequence[Block], found: Statistics) -> Iterator[None]:
    """Add up the cosine between the input and the output of each block, over all samples and positions
    (`cosine/axis`), and their number (`positions/axis`)."""

    def look(block: Block, given: torch.Tensor | None, made: torch.Tensor | None) -> None:
        if given is not None and made is not None:
            cosines = torch.cosine_similarity(given.to(torch.float64), made.to(torch.float64), dim=block.dim)
            found.add(f"cosine/{block.axis}", cosines.sum())
            found.add(f"positions/{block.axis}", torch.tensor(float(cosines.numel())))

    def hook_of(block: Block) -> Any:
        return lambda _, args, kwargs, output: look(block, first_tensor((args, kwargs)), first_tensor(output))

    handles = [
        model.get_submodule(block.module).register_forward_hook(hook_of(block), with_kwargs=True) for block in blocks
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
