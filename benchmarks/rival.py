"""Torch-Pruning on the same request, with the hints that its own examples give.

Half of the channels by group magnitude; the layers that make the model's outputs are left alone (we name them, which
its examples do by hand), and the heads of attention are given. Its examples treat heads in different ways from network
to network: they cut the width of heads, whole heads, or nothing of them; all are tried, and what works best counts.
Numbers that it leaves to its users are set as its examples set them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
import torch_pruning
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import secateur as sc
from secateur.structure.capture import call_model, normalise_inputs
from secateur.surgery import eval_outputs

FULL, PARTIAL = 0.5, 0.05
MODES: dict[str, dict[str, Any]] = {
    "head width": {"prune_head_dims": True},
    "heads whole": {},
    "whole heads": {"prune_num_heads": True, "prune_head_dims": False, "head_pruning_ratio": 0.5},
}
VERDICTS = ("crash", "none", "partial", "full")


def run(model: nn.Module, inputs: Any, mode: str) -> Iterator[dict[str, Any]]:
    """Seconds as they are known, then what was removed and the verdict."""
    yield {"mode": mode}
    given = normalise_inputs(inputs)
    ignored, shapes = _output_layers(model, inputs), _shapes(model, given)
    before = _costs(model, given)
    heads, fused = _heads(model), _fused(model)
    if mode == "heads whole":
        ignored, heads = [*ignored, *heads], {}
    start = time.process_time()
    pruner = torch_pruning.pruner.BasePruner(
        model,
        inputs if isinstance(inputs, dict | tuple | torch.Tensor) else given,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=ignored,
        num_heads=heads,
        **MODES[mode],
        in_channel_groups={},
        out_channel_groups=fused,
        customized_pruners={},
        channel_groups={},
    )
    yield {"graph_s": time.process_time() - start}
    start = time.process_time()
    pruner.step()
    _set_numbers(model, pruner)
    yield {"prune_s": time.process_time() - start}
    made = _shapes(model, given)
    if made != shapes:
        raise RuntimeError(f"output shapes changed: {shapes} -> {made}"[:160])
    after = _costs(model, given)
    removed = {key: 1 - after[key] / max(1, before[key]) for key in before}
    most = max(removed.values())
    yield {**removed, "verdict": "full" if most >= FULL else "partial" if most > PARTIAL else "none"}


def _output_layers(model: nn.Module, inputs: Any) -> list[nn.Module]:
    structure = sc.trace(model, inputs)
    outputs = {axis.name for axis in structure.axes if axis.pin is not None and axis.pin.code == "output"}
    places = {tensor for axis in outputs for tensor, dim in structure.occurrences(axis) if dim == 0}
    modules = dict(model.named_modules())
    return [modules[name] for name in dict.fromkeys(place.rpartition(".")[0] for place in places)]


def _heads(model: nn.Module) -> dict[nn.Module, int]:
    """Heads of each projection, under the names that its examples know."""
    found: dict[nn.Module, int] = {}
    config = getattr(model, "config", None)
    for name, module in model.named_modules():
        count = getattr(module, "num_heads", getattr(module, "num_attention_heads", None))
        if isinstance(count, int):
            found |= dict.fromkeys(_parts(module, "qkv", "query", "key", "value", "q", "kv"), count)
        if name.endswith("self_attn") and hasattr(config, "num_attention_heads"):
            found |= dict.fromkeys(_parts(module, "q_proj", "qkv_proj"), config.num_attention_heads)
            shared = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
            found |= dict.fromkeys(_parts(module, "k_proj", "v_proj"), shared)
    return found


def _parts(module: nn.Module, *names: str) -> list[nn.Module]:
    return [part for name in names if isinstance(part := getattr(module, name, None), nn.Linear)]


def _fused(model: nn.Module) -> dict[nn.Module, int]:
    return {
        module: 2
        for name, module in model.named_modules()
        if name.endswith("gate_up_proj") and isinstance(module, nn.Linear)
    }


def _set_numbers(model: nn.Module, pruner: Any) -> None:
    for name, module in model.named_modules():
        if isinstance(part := getattr(module, "qkv", None), nn.Linear) and part in pruner.num_heads:
            module.num_heads = pruner.num_heads[part]
            module.head_dim = part.out_features // (3 * module.num_heads)
        elif isinstance(part := getattr(module, "query", None), nn.Linear) and part in pruner.num_heads:
            module.num_attention_heads = pruner.num_heads[part]
            module.all_head_size = part.out_features
        elif name.endswith("self_attn") and isinstance(part := getattr(module, "q_proj", None), nn.Linear):
            _set_language_numbers(module, part)
    if hasattr(model, "hidden_dim") and hasattr(model, "conv_proj"):
        model.hidden_dim = model.conv_proj.out_channels


def _set_language_numbers(module: nn.Module, part: nn.Linear) -> None:
    if not isinstance(width := getattr(module, "head_dim", None), int):
        return
    module.hidden_size, module.num_heads = part.out_features, part.out_features // width
    if hasattr(module, "num_key_value_groups"):
        module.num_key_value_groups = module.num_heads // (module.k_proj.out_features // width)


def _shapes(model: nn.Module, inputs: Any) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in eval_outputs(model, inputs)]


def _costs(model: nn.Module, inputs: Any) -> dict[str, int]:
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call_model(model, inputs)
    return {
        "params_removed": sum(parameter.numel() for parameter in model.parameters()),
        "macs_removed": counter.get_total_flops(),
    }
