"""Modules of `torch.nn` that carry masks, measure their own importance, and compute as if cut channels were not there.

Masks are buffers that no state_dict holds, so that its keys stay those of the plain module. Without masks each computes
what its plain module does. Suffixes of shapes: N batch, C channels, G groups.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from secateur.spec import ScoreError

_NORM_ORDER = {"l1": 1, "l2": 2}


class Prunable(nn.Module):
    """Base of the prunable modules."""

    plain: ClassVar[type[nn.Module]]
    """What the module becomes again when it is really cut."""

    def set_mask(self, name: str, mask: Tensor) -> None:
        """Take a mask of that name; it moves with the module, and no state_dict holds it."""
        self.register_buffer(f"{name}_mask", mask, persistent=False)

    def mask(self, name: str) -> Tensor | None:
        """The mask of that name, if one is set."""
        return self._buffers.get(f"{name}_mask")

    def remove_masks(self) -> None:
        """Back to the plain computation; weights were never touched."""
        for name in [name for name in self._buffers if name.endswith("_mask")]:
            delattr(self, name)

    def effective(self, name: str) -> Any:
        """The parameter with zeros where its mask has them; None where the module has none of that name."""
        parameter, mask = getattr(self, name), self.mask(name)
        return parameter if parameter is None or mask is None else parameter * mask

    def importance(self, criterion: str = "l2") -> Tensor:
        """`l1` or `l2` norm of the weights of each output channel, shape (C,); 0 for channels that are cut.

        Raises ScoreError for another criterion, or where there are no weights.
        """
        weight = self.effective("weight")
        if criterion not in _NORM_ORDER:
            raise ScoreError(f"a module measures its importance by l1 or l2, got {criterion!r}; see secateur.score")
        if weight is None:
            raise ScoreError(f"{self} has no weights to measure its importance by; ask the layer before it")
        rows = weight.detach().reshape(len(weight), -1)
        return torch.linalg.vector_norm(rows, ord=_NORM_ORDER[criterion], dim=1)


class _PrunableConv(Prunable, nn.modules.conv._ConvNd):
    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.effective("weight"), self.effective("bias"))


class PrunableConv1d(_PrunableConv, nn.Conv1d):
    """`nn.Conv1d` with masks."""

    plain = nn.Conv1d


class PrunableConv2d(_PrunableConv, nn.Conv2d):
    """`nn.Conv2d` with masks."""

    plain = nn.Conv2d


class PrunableConv3d(_PrunableConv, nn.Conv3d):
    """`nn.Conv3d` with masks."""

    plain = nn.Conv3d


class PrunableLinear(Prunable, nn.Linear):
    """`nn.Linear` with masks."""

    plain = nn.Linear

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.effective("weight"), self.effective("bias"))


class PrunableEmbedding(Prunable, nn.Embedding):
    """`nn.Embedding` with masks."""

    plain = nn.Embedding

    def forward(self, input: Tensor) -> Tensor:
        sparse = self.sparse and self.mask("weight") is None
        settings = (self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, sparse)
        return F.embedding(input, self.effective("weight"), *settings)


class PrunableProjection(Prunable, NonDynamicallyQuantizableLinear):
    """The output projection of an `nn.MultiheadAttention`, which applies it, with masks."""

    plain = NonDynamicallyQuantizableLinear


class PrunableMultiheadAttention(Prunable, nn.MultiheadAttention):
    """`nn.MultiheadAttention` with masks, also on its output projection."""

    plain = nn.MultiheadAttention

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        tensors = {
            f"attention.{path}{name}": holder.effective(name)
            for path, holder in (("", self), ("out_proj.", self.out_proj))
            if isinstance(holder, Prunable)
            for name, _ in holder.named_parameters(recurse=False)
        }
        return functional_call(_OwnForward(self), tensors, args, kwargs)


class _OwnForward(nn.Module):
    """Calls what `nn.MultiheadAttention` does, so that it can be given other tensors."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.attention = attention
        self.training = attention.training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return nn.MultiheadAttention.forward(self.attention, *args, **kwargs)


class PrunableNorm(Prunable):
    """A norm; its mask `channel` is True where a channel stays."""

    def kept(self) -> Tensor | None:
        """Which channels stay; None for all."""
        return self.mask("channel")

    def effective(self, name: str) -> Any:
        parameter, kept = getattr(self, name), self.kept()
        return parameter if parameter is None or kept is None else parameter * kept


class _PrunableBatchNorm(PrunableNorm):
    """Statistics are those of each channel alone, so a cut channel only has to be silent."""

    def forward(self, input: Tensor) -> Tensor:
        out, kept = super().forward(input), self.kept()
        return out if kept is None else out.masked_fill(~_beside(kept, out), 0)


class PrunableBatchNorm1d(_PrunableBatchNorm, nn.BatchNorm1d):
    """`nn.BatchNorm1d` with masks."""

    plain = nn.BatchNorm1d


class PrunableBatchNorm2d(_PrunableBatchNorm, nn.BatchNorm2d):
    """`nn.BatchNorm2d` with masks."""

    plain = nn.BatchNorm2d


class PrunableBatchNorm3d(_PrunableBatchNorm, nn.BatchNorm3d):
    """`nn.BatchNorm3d` with masks."""

    plain = nn.BatchNorm3d


class PrunableLayerNorm(PrunableNorm, nn.LayerNorm):
    """`nn.LayerNorm` with masks: mean and variance over the kept channels alone."""

    plain = nn.LayerNorm

    def forward(self, input: Tensor) -> Tensor:
        kept = self.kept()
        if kept is None:
            return super().forward(input)
        dims = tuple(range(-kept.dim(), 0))
        return _affine(_normal(input, kept, dims, self.eps), self.weight, self.bias).masked_fill(~kept, 0)


class PrunableGroupNorm(PrunableNorm, nn.GroupNorm):
    """`nn.GroupNorm` with masks: mean and variance over the kept channels of each group; a group may go as a whole."""

    plain = nn.GroupNorm

    def forward(self, input: Tensor) -> Tensor:
        kept_C = self.kept()
        if kept_C is None:
            return super().forward(input)
        kept = _beside(kept_C, input)
        by_group_NG = (input.shape[0], self.num_groups, -1)
        flags = kept.expand(input.shape).reshape(by_group_NG)
        normal = _normal(input.reshape(by_group_NG), flags, (-1,), self.eps).reshape(input.shape)
        scales = [None if value is None else _beside(value, input) for value in (self.weight, self.bias)]
        return _affine(normal, *scales).masked_fill(~kept, 0)


def _beside(values_C: Tensor, x: Tensor) -> Tensor:
    """One value per channel, shaped to meet `(N, C, ...)`."""
    return values_C.reshape(1, -1, *[1] * (x.dim() - 2))


def _normal(x: Tensor, kept: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    """x less its mean, over its deviation, both over the kept entries alone."""
    count = kept.sum(dims, keepdim=True).clamp(min=1)
    centred = x - x.masked_fill(~kept, 0).sum(dims, keepdim=True) / count
    variance = centred.masked_fill(~kept, 0).square().sum(dims, keepdim=True) / count
    return centred * (variance + eps).rsqrt()


def _affine(normal: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    scaled = normal if weight is None else normal * weight
    return scaled if bias is None else scaled + bias


FORMS: dict[type[nn.Module], type[Prunable]] = {
    form.plain: form
    for form in (
        PrunableConv1d,
        PrunableConv2d,
        PrunableConv3d,
        PrunableLinear,
        PrunableEmbedding,
        PrunableMultiheadAttention,
        PrunableProjection,
        PrunableBatchNorm1d,
        PrunableBatchNorm2d,
        PrunableBatchNorm3d,
        PrunableLayerNorm,
        PrunableGroupNorm,
    )
}
"""Plain module -> its prunable form."""
