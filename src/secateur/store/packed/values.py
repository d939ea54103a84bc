"""Values of fewer bits, for those who ask for them: fp16, bf16, or int8 with a scale for each output channel.

Tensors of floating numbers with two dimensions or more are rounded, all others (biases, norms) stay as they are. What
is zero stays zero. int8 is symmetric: w is stored as round(w / s), and s is the largest |w| of the channel over 127,
rounded up to a bfloat16.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from secateur.spec import StoreError
from secateur.store.packed.manifest import Member, ValueType
from secateur.store.packed.words import FLOATING, TYPES, Words, as_tensor, as_words, item_size, word_type

NO_SCALES: Words = np.empty(0, word_type(2))
LARGEST_CODE = 127
FLOATS = {"fp16": torch.float16, "bf16": torch.bfloat16}


def is_rounded(member: Member, value_type: ValueType | None) -> bool:
    """Whether values of that type are fewer bits for this tensor."""
    if value_type is None or member.name is None or member.dtype not in FLOATING or len(member.shape) < 2:
        return False
    return item_size(member.dtype) > (1 if value_type == "int8" else 2) and member.elements > 0


def rounded(words: Words, member: Member, value_type: ValueType) -> tuple[Words, Words]:
    """The words that are stored, and the scales. Raises StoreError for numbers that the type, or the tensor's own after
    rounding, cannot say."""
    tensor = as_tensor(words.copy(), member.dtype, member.shape)
    if value_type != "int8":
        made = tensor.to(FLOATS[value_type])
        if bool((made.isinf() & tensor.isfinite()).any()):
            raise StoreError(f"tensor {member.name!r} has values too large for {value_type}; choose bf16 or none")
        return as_words(made), NO_SCALES
    if not bool(tensor.isfinite().all()):
        raise StoreError(f"tensor {member.name!r} has values that are not finite, which int8 cannot say; choose bf16")
    matrix = tensor.float().flatten(1)
    scales = _rounded_up(matrix.abs().amax(1) / LARGEST_CODE)
    divisors = torch.where(scales > 0, scales, 1.0)
    codes = (matrix / divisors[:, None]).round().clamp(-LARGEST_CODE, LARGEST_CODE).to(torch.int8)
    if not bool((codes.float() * scales[:, None]).to(tensor.dtype).isfinite().all()):
        raise StoreError(f"tensor {member.name!r} has values too large for int8; choose bf16 or none")
    return as_words(codes), as_words(scales.to(torch.bfloat16))


def _rounded_up(numbers: Tensor) -> Tensor:
    """To the next number, at least as large, that is a bfloat16; of numbers that are not negative."""
    return ((numbers.view(torch.int32) + 0xFFFF) & ~0xFFFF).view(torch.float32)


def restored(stored: Words, scales: Words, dtype: str, shape: Sequence[int], value_type: ValueType) -> Words:
    """The tensor's words, from what `rounded` made."""
    if value_type != "int8":
        made = as_tensor(stored, "F16" if value_type == "fp16" else "BF16", shape)
    else:
        factors = as_tensor(scales, "BF16", (shape[0], 1)).float()
        made = as_tensor(stored, "I8", (shape[0], -1)).float() * factors
    return as_words(made.to(TYPES[dtype]))
