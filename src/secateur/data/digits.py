"""`digits`: 1,797 handwritten digits of 8x8 pixels that come with scikit-learn."""

from __future__ import annotations

import numpy as np
import torch

from secateur.data.images import ImageSet
from secateur.data.source import DATA, Request
from secateur.data.split import stratified
from secateur.spec import DataError, import_extra

GREY_LEVELS = 16
"""Largest value in scikit-learn's copy."""


@DATA.register("digits", "digits, 1,797 grey 8x8 images in 10 classes that come with scikit-learn; needs no files")
def open_digits(request: Request) -> ImageSet:
    """One part of a fixed stratified 80/20 split; grey levels 0..16 become 0..255."""
    if request.path is not None:
        raise DataError(f"digits reads no file, got {request.path}; write digits alone")
    bunch = import_extra("sklearn.datasets", "data").load_digits()
    chosen = stratified(bunch.target, request.split)
    images = np.rint(bunch.images[chosen] * (255 / GREY_LEVELS)).astype(np.uint8)
    return ImageSet(
        images=torch.from_numpy(images)[:, None],
        labels=torch.from_numpy(bunch.target[chosen].astype(np.int64)),
        classes=tuple(str(digit) for digit in range(10)),
        mean=(0.305,),
        std=(0.376,),
        mirrors=False,
        name=f"digits ({request.split})",
    )
