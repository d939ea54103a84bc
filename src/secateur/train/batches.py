"""The batches of one epoch: from images in memory or a loader of the user's own, mixed up, and this process's part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data.distributed import DistributedSampler

from secateur.data import ImageSet
from secateur.spec import DataError, SecateurError
from secateur.train import processes
from secateur.train.config import TrainConfig


class Loader(Protocol):
    """Batches as a `torch.utils.data.DataLoader` gives them: `(images, labels)`, or images alone where nothing reads
    labels. Its order must come from torch's global random state, or be the same in every epoch: then runs can be
    resumed exactly."""

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Batch:
    """Images `(B, C, H, W)` with their labels `(B,)`, if any; mixed ones have the labels of two."""

    images: Tensor
    labels: Tensor | None
    partners: Tensor | None = None
    """`(B,)` labels of the images that were mixed in."""
    weight: float = 1.0
    """Of the own image and label; what is missing to 1 is the partner's."""

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, chosen: slice) -> Batch:
        """Some images of the batch."""
        labels = None if self.labels is None else self.labels[chosen]
        partners = None if self.partners is None else self.partners[chosen]
        return replace(self, images=self.images[chosen], labels=labels, partners=partners)

    def parts(self, count: int) -> list[Batch]:
        """The batch in up to `count` parts of about the same size."""
        size = -(-len(self) // count)
        return [self.rows(slice(start, start + size)) for start in range(0, len(self), size)]


class Batches:
    """What a run reads."""

    def __init__(self, data: ImageSet | Loader, config: TrainConfig) -> None:
        """Raises SecateurError for options that do not go with the data or the processes, DataError for no batches."""
        self.data = data
        self.config = config
        loader = None if isinstance(data, ImageSet) else data
        if loader is not None and config.augment:
            raise SecateurError("augment=True is for images in memory; let the loader's own dataset augment")
        if config.batch_size % processes.count():
            raise SecateurError(
                f"batch_size={config.batch_size} cannot be shared evenly by {processes.count()} processes; give a "
                "multiple of them"
            )
        self.per_epoch = max(1, len(data) // config.batch_size) if loader is None else len(loader)
        if self.per_epoch < 1:
            raise DataError("the loader holds no batch")
        sampler = getattr(loader, "sampler", None)
        self._sampler = sampler if isinstance(sampler, DistributedSampler) else None

    def epoch(self, epoch: int, seed: int) -> Iterator[Batch]:
        """This process's part of every batch of an epoch (from 0); the same for the same arguments.

        Raises DataError where the data fails: a file that cannot be read, a worker that died.
        """
        mixing = np.random.default_rng(seed)
        if self._sampler is not None:
            self._sampler.set_epoch(epoch)
        for images, labels in _guarded(self._whole(seed)):
            batch = Batch(images.to(self.config.device), None if labels is None else labels.to(self.config.device))
            if self.config.mixup > 0:
                batch = _mixed(batch, self.config.mixup, mixing)
            yield batch if self._sampler is not None else _own_part(batch)

    def _whole(self, seed: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        if isinstance(self.data, ImageSet):
            yield from self.data.batches(
                self.config.batch_size,
                shuffle=True,
                seed=seed,
                augment=self.config.augment,
                drop_last=len(self.data) >= self.config.batch_size,
                device=self.config.device,
            )
            return
        for found in self.data:
            images, *labels = [found] if isinstance(found, Tensor) else found
            yield images, labels[0] if labels else None


def _guarded(found: Iterable[tuple[Tensor, Tensor | None]]) -> Iterator[tuple[Tensor, Tensor | None]]:
    batches, number = iter(found), 0
    while True:
        number += 1
        try:
            batch = next(batches)
        except StopIteration:
            return
        except SecateurError:
            raise
        except Exception as error:  # whatever a user's dataset raises, in this process or in a worker
            raise DataError(f"batch {number} of the data cannot be read: {type(error).__name__}: {error}") from error
        yield batch


def _own_part(batch: Batch) -> Batch:
    """Every so-manieth image; what cannot be shared evenly is left out, so that means of parts average to the mean."""
    together = processes.count()
    if together == 1:
        return batch
    if len(batch) < together:
        raise DataError(f"a batch of {len(batch)} cannot be shared by {together} processes; give larger ones")
    return batch.rows(slice(processes.index(), len(batch) - len(batch) % together, together))


def _mixed(batch: Batch, alpha: float, generator: np.random.Generator) -> Batch:
    """Each image mixed with another of the batch, all by one weight (mixup, Zhang et al. 2018; so does its code)."""
    weight = float(generator.beta(alpha, alpha))
    order = torch.from_numpy(generator.permutation(len(batch))).to(batch.images.device)
    images = weight * batch.images + (1 - weight) * batch.images[order]
    return Batch(images, batch.labels, None if batch.labels is None else batch.labels[order], weight)
