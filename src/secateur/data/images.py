"""A labelled set of images in memory, and the batches that a network reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from secateur.data.transform import augmented, resized
from secateur.spec import DataError

Shape = tuple[int, int, int]
"""Channels, height and width of one image."""


@dataclass(frozen=True)
class ImageSet:
    """Images of one split with their labels.

    Stored once as bytes; scaling to 0..1, resizing to `target_shape` and normalising happen batch by batch.
    """

    images: Tensor
    """`(N, C, H, W)` uint8."""
    labels: Tensor
    """`(N,)` int64, indices into `classes`."""
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    """Per stored channel, of values scaled to 0..1."""
    std: tuple[float, ...]
    target_shape: Shape | None = None
    """Shape of the images in the batches, where it is not that of `images`."""
    mirrors: bool = True
    """Whether an image's mirror image is of the same class (not so for digits); augmentation mirrors only then."""
    shift: int | None = None
    """Pixels, at most, by which augmentation shifts; an eighth of height and width where nothing is said."""
    name: str = ""
    """What was opened, for messages."""

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            found = f"{self.images.dtype} {tuple(self.images.shape)}"
            raise DataError(f"{self.name}: images must be uint8 of shape (N, C, H, W), got {found}")
        if self.labels.shape != self.images.shape[:1]:
            raise DataError(f"{self.name}: {len(self.images)} images but {len(self.labels)} labels")
        if self.shift is not None and self.shift < 0:
            raise DataError(f"{self.name}: shift={self.shift}: give a number of pixels, 0 or more")
        if len(self.images) == 0:
            raise DataError(f"{self.name}: no images")
        if not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            wrong = sorted(set(self.labels.tolist()) - set(range(len(self.classes))))
            raise DataError(f"{self.name}: unknown labels {wrong[:5]}; expected 0..{len(self.classes) - 1}")
        stored, wanted = self.images.shape[1], self.input_shape[0]
        if wanted not in (stored, 3 * stored):
            raise DataError(
                f"{self.name}: images of {stored} channels cannot feed a model that reads {wanted}; "
                "grey images serve 3 channels, coloured ones never 1: take a model for these images"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def input_shape(self) -> Shape:
        """Channels, height and width of the images in the batches."""
        if self.target_shape is not None:
            return self.target_shape
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def subset(self, count: int, seed: int = 0) -> ImageSet:
        """`count` images drawn without replacement, in their original order; raises DataError where there are fewer."""
        if not 0 < count <= len(self):
            raise DataError(
                f"{self.name}: asked for {count} images, has {len(self)}; give a number within 1..{len(self)}"
            )
        chosen = drawn(len(self), count, seed)
        return self._picked(chosen)

    def split(self, count: int, seed: int = 0) -> tuple[ImageSet, ImageSet]:
        """All but `count` images, and these, drawn without replacement; both in their original order."""
        aside = torch.zeros(len(self), dtype=torch.bool)
        aside[drawn(len(self), count, seed)] = True
        return self._picked(~aside), self._picked(aside)

    def _picked(self, chosen: Tensor) -> ImageSet:
        """chosen: indices, or a mask."""
        return replace(self, images=self.images[chosen], labels=self.labels[chosen])

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        augment: bool = False,
        drop_last: bool = False,
        device: str | torch.device = "cpu",
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images `(B, C, H, W)` float32 and labels `(B,)` int64; the same for the same arguments.

        `augment` shifts each image by up to `shift` pixels, and mirrors half of them if `mirrors`.
        The last batch is shorter where the sizes do not divide, and left out with `drop_last`.
        """
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self), generator=generator) if shuffle else torch.arange(len(self))
        end = len(self) - len(self) % batch_size if drop_last else len(self)
        for start in range(0, end, batch_size):
            chosen = order[start : min(start + batch_size, end)]
            x = resized(self.images[chosen].to(device).float() / 255, self.input_shape)
            if augment:
                x = augmented(x, generator, mirror=self.mirrors, shift=self.shift)
            yield self._normalised(x), self.labels[chosen].to(device)

    def _normalised(self, x: Tensor) -> Tensor:
        mean, std = (torch.tensor(values, device=x.device).view(1, -1, 1, 1) for values in (self.mean, self.std))
        x = (x - mean) / std
        return x.repeat(1, self.input_shape[0] // x.shape[1], 1, 1)


def drawn(total: int, count: int, seed: int) -> Tensor:
    """`count` of the indices `0..total-1`, ascending."""
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return order[:count].sort().values
