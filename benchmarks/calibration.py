"""Calibration images as benchmarks read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from secateur.data import ImageSet

Mixing = Literal["none", "half", "also"]


class Augmented:
    """Images without their labels, shifted and mirrored otherwise each time they are gone through."""

    def __init__(self, images: ImageSet, *, mixed: Mixing = "none") -> None:
        """mixed: with weighted means of two images each, of which a network is less sure than of what it was trained
        on, so that they say more about it: in place of every second batch (`half`), or of all images once more
        (`also`)."""
        self.images, self.mixed, self.times = images, mixed, 0

    def __iter__(self) -> Iterator[Tensor]:
        for mixes in (False, True) if self.mixed == "also" else (False,):
            self.times += 1
            generator = torch.Generator().manual_seed(self.times)
            batches = self.images.batches(256, shuffle=True, seed=self.times, augment=True)
            for number, (x, _) in enumerate(batches):
                yield _mixed(x, generator) if mixes or (self.mixed == "half" and number % 2) else x


def _mixed(x: Tensor, generator: torch.Generator) -> Tensor:
    share = torch.rand(len(x), 1, 1, 1, generator=generator)
    return share * x + (1 - share) * x[torch.randperm(len(x), generator=generator)]
