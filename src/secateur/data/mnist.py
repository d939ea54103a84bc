"""`mnist[:FILE]`: handwritten digits of 28x28 pixels from an `.npz` file."""

from __future__ import annotations

from secateur.data.images import ImageSet
from secateur.data.npz import read_split
from secateur.data.source import DATA, Request


@DATA.register("mnist", "mnist[:FILE], 70,000 grey 28x28 images in 10 classes from mnist.npz")
def open_mnist(request: Request) -> ImageSet:
    """60,000 images to train with, 10,000 to test with."""
    images, labels = read_split(request.locate("mnist.npz"), request.split)
    return ImageSet(
        images=images,
        labels=labels,
        classes=tuple(str(digit) for digit in range(10)),
        mean=(0.1307,),
        std=(0.3081,),
        mirrors=False,
        name=f"{request.name} ({request.split})",
    )
