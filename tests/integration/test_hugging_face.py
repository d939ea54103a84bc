"""Hugging Face in, Hugging Face out: transformers alone loads what was pruned, so does `load`, so does the command
line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from calling import secateur
from safetensors.torch import load_file, save_file
from transformers_networks import build

import secateur as sc

WITHOUT_SECATEUR = """
import copy, sys
import torch
import tvshim  # before transformers looks for torchvision
import transformers
from safetensors.torch import load_file, save_file

folder, class_name, inputs, outputs = sys.argv[1:]
torch.set_num_threads(1)
model = getattr(transformers, class_name).from_pretrained(folder)
# Copied out of the file that is mapped into memory: matrix products round by the alignment of what they read.
model = copy.deepcopy(model).eval()
given = load_file(inputs)
options = {"use_cache": False} if "input_ids" in given and "CausalLM" in class_name else {}
with torch.no_grad():
    save_file({"logits": model(**given, **options).logits}, outputs)
assert not any(name.split(".")[0] == "secateur" for name in sys.modules)
"""


@pytest.mark.parametrize("name", ["mistral", "bert", "vit", "t5"])
def test_transformers_alone_loads_the_result_bit_for_bit(name: str, tmp_path: Path) -> None:
    model, inputs = build(name)
    result = sc.prune(model, inputs, budget={"macs": 0.5})
    assert result.notes == ()
    assert result.verification is not None
    assert result.verification.ok
    folder = result.save(tmp_path / "out")
    with torch.no_grad():
        expected = result.model.eval()(**inputs).logits
    tensors = {key: value for key, value in inputs.items() if isinstance(value, torch.Tensor)}
    save_file(tensors, tmp_path / "inputs.safetensors")
    arguments = [
        str(folder),
        type(model).__name__,
        str(tmp_path / "inputs.safetensors"),
        str(tmp_path / "o.safetensors"),
    ]
    subprocess.run(
        [sys.executable, "-c", WITHOUT_SECATEUR, *arguments], cwd=Path(__file__).parents[1], check=True, timeout=120
    )
    assert torch.equal(load_file(tmp_path / "o.safetensors")["logits"], expected)
    loaded = sc.load(folder)
    assert type(loaded) is type(model)
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, expected)
        assert torch.equal(sc.load(folder, build(name)[0])(**inputs).logits, expected)


def test_the_command_line_reads_what_it_wrote(tmp_path: Path) -> None:
    model, _ = build("bert")
    model.save_pretrained(tmp_path / "in")
    source, out = f"hf:{tmp_path / 'in'}", tmp_path / "out"
    assert secateur("prune", source, "--budget", "params=0.7", "--out", out).code == 0
    assert json.loads((out / "config.json").read_text())["num_attention_heads"] < 4
    records = [secateur("inspect", where, "--json").record for where in (out, f"hf:{out}")]
    assert records[0] == {**records[1], "model": f"hf:{out / 'config.json'}"}
    assert secateur("verify", out, "--original", source).code == 0
    again = secateur("prune", out, "--budget", "params=0.8", "--out", tmp_path / "again")
    assert again.code == 0
    assert secateur("verify", tmp_path / "again", "--original", source).code == 0


def test_the_command_line_says_what_transformers_cannot_load(tmp_path: Path) -> None:
    model, _ = build("gemma")
    model.save_pretrained(tmp_path / "in")
    pruned = secateur("prune", f"hf:{tmp_path / 'in'}", "--budget", "macs=0.6", "--out", tmp_path / "out")
    assert pruned.code == 0
    assert "from_pretrained cannot load the result" in pruned.err
    assert secateur("verify", tmp_path / "out").code == 0
    tied = secateur(
        "prune", f"hf:{tmp_path / 'in'}", "--budget", "macs=0.6", "--tie", "config", "--out", tmp_path / "out"
    )
    assert "from_pretrained" not in tied.err
    assert (tmp_path / "out" / "config.json").is_file()
