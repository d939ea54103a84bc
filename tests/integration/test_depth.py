"""Real networks lose blocks: pruned twice, saved, loaded without a factory, copied, exported, generating."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from calling import secateur
from networks import image
from torch import nn

import secateur as sc
from secateur.structure.capture import call_model, normalise_inputs, tensors_in


def outputs(model: nn.Module, inputs: Any) -> list[torch.Tensor]:
    with torch.no_grad():
        return list(tensors_in(call_model(model.eval(), normalise_inputs(inputs))))


@pytest.mark.parametrize(
    ("name", "inputs", "left"),
    [
        ("resnet20", image(32), "conv1.weight"),
        ("timm:vit_tiny_patch16_224", image(224), "blocks.0.norm1.weight"),
        ("torchvision:convnext_tiny", image(64), "features.1.0.block.0.weight"),
    ],
)
def test_pruned_twice_saved_and_loaded_by_name(name: str, inputs: torch.Tensor, left: str, tmp_path: Path) -> None:
    if ":" in name:
        pytest.importorskip(name.partition(":")[0])
    first, second = tmp_path / "first", tmp_path / "second"
    options = ["--input-shape", ",".join(map(str, inputs.shape[1:])), "--granularity", "blocks"]
    made = secateur("prune", name, *options, "--budget", "macs=0.8", "--out", first, "--json")
    assert made.code == 0, made.err
    assert made.record["verification"]["ok"]
    made = secateur(
        "prune", first, "--granularity", "channels", "--granularity", "blocks", "--budget", "macs=0.6", "--out", second
    )
    assert made.code == 0, made.err
    assert secateur("verify", second).code == 0

    once, twice = sc.load(first), sc.load(second)
    assert left in once.state_dict()
    (expected,) = outputs(twice, inputs)
    assert torch.equal(outputs(copy.deepcopy(twice), inputs)[0], expected)
    exported = torch.export.export(twice, (inputs,)).module()
    torch.testing.assert_close(exported(inputs), expected, rtol=1e-4, atol=1e-4)


def test_kinds_of_attention_and_caches_follow_the_layers() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.Gemma2Config(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, sliding_window=6, pad_token_id=0,
    )  # fmt: skip
    model = transformers.Gemma2ForCausalLM(config).eval()
    short, long = (torch.randint(5, 97, (1, length)) for length in (4, 16))
    structure = sc.trace(model, {"input_ids": short, "use_cache": False})
    assert [structure.axis[block.axis].pin for block in structure.blocks] == [None] * 4
    plan = sc.Plan(structure, {structure.blocks[0].axis: ()})
    small = sc.shrink(model, plan)

    assert small.config.layer_types == model.config.layer_types[1:] != model.config.layer_types[:-1]
    assert sc.verify(model, small, plan, {"input_ids": long, "use_cache": False}).ok
    with_cache, without = (
        small.generate(long, max_new_tokens=4, min_new_tokens=4, do_sample=False, use_cache=use)
        for use in (True, False)
    )
    assert torch.equal(with_cache, without)
