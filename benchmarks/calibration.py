"""Calibration images as benchmarks read them."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from secateur.data import ImageSet


class Augmented:
    """Images without their labels, shifted and mirrored otherwise each time they are gone through."""

    def __init__(self, images: ImageSet, *, views: int = 1) -> None:
        """views: how often each image comes in one reading."""
        self.images, self.views, self.times = images, views, 0

    def __iter__(self) -> Iterator[Tensor]:
        for _ in range(self.views):
            self.times += 1
            yield from (x for x, _ in self.images.batches(256, shuffle=True, seed=self.times, augment=True))
