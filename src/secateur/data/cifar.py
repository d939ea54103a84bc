"""`cifar10[:PATH]` and `cifar100[:PATH]` from an `.npz` file, an archive of images or a folder of images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from secateur.data.archive import read_archive
from secateur.data.files import MEAN, STD
from secateur.data.folder import read_folder
from secateur.data.images import ImageSet
from secateur.data.npz import read_split
from secateur.data.source import DATA, Request
from secateur.spec import DataError

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100_CLASSES = tuple(str(label) for label in range(100))
PICKLES = ("data_batch_1", "batches.meta", "meta")
"""Files of the official python version."""


@DATA.register("cifar10", "cifar10[:PATH], colour 32x32 images in 10 classes from .npz, .tar.xz of images, or a folder")
def open_cifar10(request: Request) -> ImageSet:
    """All 60,000 images as JPEG where the archive is there, else a lossless subset."""
    return _open(request, request.locate("cifar10-jpeg.tar.xz", "cifar10-subset.npz"), CIFAR10_CLASSES)


@DATA.register(
    "cifar100", "cifar100[:PATH], colour 32x32 images in 100 classes from .npz, .tar.xz of images, or a folder"
)
def open_cifar100(request: Request) -> ImageSet:
    """As cifar10; an `.npz` file holds no class names, so there the classes are numbers."""
    return _open(request, request.locate("cifar100.npz", "cifar100.tar.xz"), CIFAR100_CLASSES)


def _open(request: Request, path: Path, classes: tuple[str, ...]) -> ImageSet:
    if path.is_dir():
        _refuse_pickles(path)
        found = read_folder(replace(request, path=path))
        _check_count(found.classes, classes, path)
        return found
    images, labels, names = _read(path, request, classes)
    _check_count(names, classes, path)
    return ImageSet(
        images=images, labels=labels, classes=names, mean=MEAN, std=STD, name=f"{request.name} ({request.split})"
    )


def _read(path: Path, request: Request, classes: tuple[str, ...]) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    if path.suffix == ".npz":
        return *read_split(path, request.split), classes
    if ".tar" in path.suffixes:
        return read_archive(path, request.split)
    raise DataError(f"{path}: expected an .npz file, a .tar archive of images or a folder of images")


def _check_count(found: tuple[str, ...], expected: tuple[str, ...], path: Path) -> None:
    if len(found) != len(expected):
        raise DataError(
            f"{path}: {len(found)} classes, expected {len(expected)}; write folder:{path} for a set of your own"
        )


def _refuse_pickles(path: Path) -> None:
    pickled = [name for name in PICKLES if (path / name).is_file()]
    if pickled:
        raise DataError(
            f"{path} is the official python version, pickled ({', '.join(pickled)}), and reading that could run code. "
            "Convert it once, where you trust it: read it with torchvision.datasets, then numpy.savez('cifar.npz', "
            "x_train=..., y_train=..., x_test=..., y_test=...) with images (N, 32, 32, 3) uint8, and give the .npz file"
        )
