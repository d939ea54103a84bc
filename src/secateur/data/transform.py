"""What happens to a batch of images on its way to the network. N images, C channels, H height, W width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def resized(x_NCHW: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Height and width made those of `shape`: 28x28 becomes 32x32 by a border of zeros, all else is interpolated."""
    size, wanted = tuple(x_NCHW.shape[2:]), shape[1:]
    if size == wanted:
        return x_NCHW
    if size == (28, 28) and wanted == (32, 32):
        return F.pad(x_NCHW, (2, 2, 2, 2))
    return F.interpolate(x_NCHW, size=wanted, mode="bilinear", align_corners=False, antialias=wanted[0] < size[0])


def augmented(x_NCHW: Tensor, generator: torch.Generator, *, mirror: bool, shift: int | None = None) -> Tensor:
    """Each image shifted by up to `shift` pixels, or an eighth of its size (zeros move in), and, with `mirror`,
    mirrored with probability one half."""
    height, width = x_NCHW.shape[2:]
    x_NCHW = _shifted(x_NCHW, (height // 8, width // 8) if shift is None else (shift, shift), generator)
    if not mirror:
        return x_NCHW
    mirrored_N = torch.rand(len(x_NCHW), generator=generator).to(x_NCHW.device) < 0.5
    return torch.where(mirrored_N[:, None, None, None], x_NCHW.flip(3), x_NCHW)


def _shifted(x_NCHW: Tensor, most: tuple[int, int], generator: torch.Generator) -> Tensor:
    count, _, height, width = x_NCHW.shape
    down, right = most
    rows_NH = torch.randint(0, 2 * down + 1, (count, 1), generator=generator) + torch.arange(height)
    columns_NW = torch.randint(0, 2 * right + 1, (count, 1), generator=generator) + torch.arange(width)
    padded = F.pad(x_NCHW, (right, right, down, down))
    images_N11 = torch.arange(count)[:, None, None]
    shifted_NHWC = padded.permute(0, 2, 3, 1)[images_N11, rows_NH[:, :, None], columns_NW[:, None, :]]
    return shifted_NHWC.permute(0, 3, 1, 2).contiguous()
