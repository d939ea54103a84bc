"""Tensors as words: unsigned integers of the width of their type, so that every bit pattern survives.

A word is zero where all of its bits are: -0.0 is kept like any other value, and NaNs keep their payload.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from secateur.spec import StoreError

Words = npt.NDArray[np.unsignedinteger]
"""One-dimensional, little-endian, of 1, 2, 4 or 8 bytes each."""

TYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "C64": torch.complex64,
    "F64": torch.float64,
    "I64": torch.int64,
    "U64": torch.uint64,
}
"""Types by the names that safetensors gives them; those that come later here come first in its files."""
NAMES = {dtype: name for name, dtype in TYPES.items()}
FLOATING = {name for name, dtype in TYPES.items() if dtype.is_floating_point}


def item_size(dtype: str) -> int:
    """Bytes of one element."""
    return TYPES[dtype].itemsize


def dtype_name(tensor: Tensor, name: str) -> str:
    """The name of the tensor's type; raises StoreError for types that no safetensors file holds."""
    if tensor.layout != torch.strided or tensor.dtype not in NAMES:
        raise StoreError(
            f"tensor {name!r} is {tensor.layout} of {tensor.dtype}, which cannot be packed; "
            f"expected a dense tensor of one of {', '.join(str(dtype) for dtype in NAMES)}"
        )
    return NAMES[tensor.dtype]


def as_words(tensor: Tensor) -> Words:
    """The bits of a tensor in row-major order, without a copy where it is contiguous and on the CPU."""
    flat = tensor.detach().cpu().resolve_conj().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().view(word_type(tensor.dtype.itemsize))


def as_tensor(words: Words, dtype: str, shape: Sequence[int]) -> Tensor:
    """The tensor that has these bits; shares memory with words that can be written to."""
    own = words if words.flags.writeable else words.copy()
    return torch.from_numpy(own.view(np.uint8)).view(TYPES[dtype]).reshape(tuple(shape))


def word_type(size: int) -> np.dtype[np.unsignedinteger]:
    """The unsigned integer of so many bytes."""
    return np.dtype(f"<u{size}")


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of the view that matrix encodings take: the first dimension, and all others; one row for a
    vector."""
    return (shape[0], prod(shape[1:])) if len(shape) > 1 else (1, prod(shape))
