"""What residual blocks do to what passes through them, measured on a forward."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from secateur.score.statistics import Statistics
from secateur.spec import Block
from secateur.structure.capture import attached, first_tensor


def watching_blocks(model: nn.Module, blocks: Sequence[Block], found: Statistics) -> AbstractContextManager[None]:
    """Add up the cosine between the input and the output of each block, over all samples and positions
    (`cosine/axis`), and their number (`positions/axis`)."""

    def watch(block: Block) -> RemovableHandle:
        def look(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            given, made = first_tensor((args, kwargs)), first_tensor(output)
            if given is not None and made is not None:
                cosines = torch.cosine_similarity(given.to(torch.float64), made.to(torch.float64), dim=block.dim)
                found.add(f"cosine/{block.axis}", cosines.sum())
                found.add(f"positions/{block.axis}", torch.tensor(float(cosines.numel())))

        return model.get_submodule(block.module).register_forward_hook(look, with_kwargs=True)

    return attached(watch(block) for block in blocks)
