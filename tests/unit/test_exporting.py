"""Export: files that compute what the network does, records that say so, and what happens where they do not."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from calling import listing, secateur
from torch import Tensor, nn

import secateur as sc
from secateur.spec import ExportError, ExportRecord, MissingExtraError, StoreError
from secateur.store.exporting import ExportOptions, Run, export, torch_export
from secateur.store.exporting.export import _other


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.linear(self.norm(self.conv(image)).relu().mean((2, 3)))


IMAGE = torch.randn(1, 1, 8, 8)


@dataclass
class Answer:
    scores: Tensor
    layers: tuple[Tensor, ...]
    skipped: Tensor | None = None


class Text(nn.Module):
    """Reads keywords and a switch, gives an object."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(17, 6)
        self.linear = nn.Linear(6, 4)

    def forward(self, ids: Tensor, mask: Tensor | None = None, *, detailed: bool = False) -> Answer:
        read = self.embedding(ids) * (1 if mask is None else mask[..., None])
        return Answer(self.linear(read), (read, read.sum(1)) if detailed else ())


TEXT: dict[str, Any] = {
    "ids": torch.randint(17, (1, 5)),
    "mask": torch.ones(1, 5, dtype=torch.int64),
    "detailed": True,
}


@pytest.fixture(scope="module")
def runtime() -> Any:
    pytest.importorskip("onnxscript")
    return pytest.importorskip("onnxruntime")


def test_onnx_is_run_again_at_two_batches_and_the_record_says_so(tmp_path: Path, runtime: Any) -> None:
    model = Tiny()
    record = export(model, IMAGE, tmp_path / "tiny.onnx", source={"name": "mine"})
    assert model.training
    assert record == ExportRecord.from_json((tmp_path / "tiny.onnx.json").read_bytes())
    assert sorted(listing(tmp_path)) == ["tiny.onnx", "tiny.onnx.json"]
    assert record.sha256["tiny.onnx"] == hashlib.sha256((tmp_path / "tiny.onnx").read_bytes()).hexdigest()
    assert (record.inputs[0].name, record.inputs[0].shape) == ("image", ("batch", 1, 8, 8))
    assert record.outputs[0].shape == ("batch", 3)
    assert [run["batch"] for run in record.runs] == [1, 3]
    assert record.verification.ok
    assert record.details == {"opset": 20}

    again = export(model, IMAGE, tmp_path / "again.onnx")
    assert list(again.sha256.values()) == list(record.sha256.values())
    assert str(Path(__file__).parent).encode() not in (tmp_path / "tiny.onnx").read_bytes()

    session = runtime.InferenceSession(str(tmp_path / "tiny.onnx"))
    image = torch.randn(5, 1, 8, 8)
    (got,) = session.run(None, {"image": image.numpy()})
    assert torch.allclose(torch.from_numpy(got), model.eval()(image), atol=1e-5)


@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_keywords_switches_and_objects(tmp_path: Path, suffix: str, runtime: Any) -> None:
    record = export(Text(), TEXT, tmp_path / f"text.{suffix}")
    assert record.verification.ok, record.verification.detail
    assert [(port.name, port.shape) for port in record.inputs] == [
        ("ids", ("batch", "length")),
        ("mask", ("batch", "length")),
    ]
    assert [(port.name, port.shape) for port in record.outputs] == [
        ("scores", ("batch", "length", 4)),
        ("layers_0", ("batch", "length", 6)),
        ("layers_1", ("batch", 6)),
    ]
    assert record.runs[1]["length"] != record.runs[0]["length"]


def test_sizes_that_the_code_fixes_are_fixed_and_told(tmp_path: Path) -> None:
    class Fixed(Tiny):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image).reshape(1, 3)

    record = export(Fixed(), IMAGE, tmp_path / "fixed.pt2")
    assert record.inputs[0].shape == (1, 1, 8, 8)
    assert "the batch is fixed" in record.notes[0]
    assert record.verification.ok
    asked = export(Tiny(), IMAGE, tmp_path / "asked.pt2", options=ExportOptions(fixed=True))
    assert asked.inputs[0].shape == (1, 1, 8, 8)
    assert asked.notes == ()


def test_networks_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 53, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = torch.randint(3, 53, (1, 9))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    bert = transformers.BertForSequenceClassification(transformers.BertConfig(**sizes, intermediate_size=24))
    llama = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, intermediate_size=24))
    special = {"bos_token_id": 1, "eos_token_id": 2}
    gpt2 = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=53, n_embd=16, n_layer=1, n_head=2, **special)
    )
    for name, model, own in (
        ("bert", bert, {}),
        ("llama", llama, {"use_cache": False}),
        ("gpt2", gpt2, {"use_cache": False}),
    ):
        record = export(model, {**inputs, **own}, tmp_path / f"{name}.pt2")
        assert record.verification.ok, name
        assert record.inputs[0].shape == ("batch", "length"), record.notes
        assert [port.name for port in record.outputs] == ["logits"], name


def test_openvino(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    record = export(Text(), TEXT, tmp_path / "text.xml")
    assert record.verification.ok, record.verification.detail
    assert record.inputs[0].shape == ("batch", "length")
    assert sorted(record.sha256) == ["text.bin", "text.xml"]
    assert sorted(listing(tmp_path)) == ["text.bin", "text.xml", "text.xml.json"]
    small = export(Tiny(), IMAGE, tmp_path / "tiny.xml")
    assert [run["batch"] for run in small.runs] == [1, 3]
    assert small.verification.ok


@pytest.mark.slow
def test_executorch(tmp_path: Path) -> None:
    pytest.importorskip("executorch")
    record = export(Tiny(), IMAGE, tmp_path / "tiny.pte")
    assert record.verification.ok, record.verification.detail
    assert record.inputs[0].shape == (1, 1, 8, 8)
    assert export(Text(), TEXT, tmp_path / "text.pte").verification.ok


def test_the_command_exports_a_folder_with_masks(tmp_path: Path, runtime: Any) -> None:
    saved, file = tmp_path / "sparse", tmp_path / "sparse.onnx"
    cut = ["--granularity", "element", "--budget", "sparsity=0.8"]
    assert secateur("prune", "lenet5", *cut, "--out", saved).code == 0
    found = secateur("export", saved, "--out", file, "--json")
    assert found.code == 0, found.err
    assert found.record["verification"]["ok"]
    assert found.record["source"]["folder"] == "sparse"
    assert "zero" in found.record["notes"][0]
    assert {**json.loads((tmp_path / "sparse.onnx.json").read_text()), "out": str(file)} == found.record
    onnx = pytest.importorskip("onnx")
    weights = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(file).graph.initializer}
    zeros = sum(int((weight == 0).sum()) for weight in weights.values())
    assert zeros / sum(weight.size for weight in weights.values()) == pytest.approx(0.8, abs=0.01)


def test_a_file_that_computes_something_else_is_written_and_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = torch_export.opened

    def off_by_a_little(file: Path) -> Run:
        run = opened(file)

        def wrong(tensors: Sequence[Tensor]) -> list[Tensor]:
            return [output * 1.001 for output in run(tensors)]

        return wrong

    monkeypatch.setattr(torch_export, "opened", off_by_a_little)
    found = secateur("export", "lenet5", "--out", tmp_path / "wrong.pt2", "--json")
    assert found.code == 3
    assert (tmp_path / "wrong.pt2").is_file()
    assert not found.record["verification"]["ok"]
    assert found.record["verification"]["relative_diff"] == pytest.approx(1e-3, rel=0.01)
    assert "NOT VERIFIED" in secateur("export", "lenet5", "--out", tmp_path / "wrong.pt2").out


def test_an_operator_that_onnx_lacks_is_named_and_nothing_is_written(tmp_path: Path, runtime: Any) -> None:
    class Eigen(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.eigvals(x).abs()

    with pytest.raises(ExportError, match=r"cannot be said in onnx: .*linalg_eig"):
        export(Eigen(), torch.randn(1, 3, 3), tmp_path / "eigen.onnx")
    assert listing(tmp_path) == {}


def test_code_that_looks_at_values_is_one_error(tmp_path: Path) -> None:
    class Chooses(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ExportError, match=r"Chooses: torch\.export cannot follow the forward"):
        export(Chooses(), torch.randn(1, 3), tmp_path / "chooses.pt2")
    assert listing(tmp_path) == {}


@pytest.mark.parametrize(
    ("library", "suffix", "extra"),
    [
        ("onnxruntime", "onnx", "export"),
        ("onnxscript", "onnx", "export"),
        ("openvino", "xml", "openvino"),
        ("executorch.exir", "pte", "executorch"),
    ],
)
def test_a_missing_library_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, suffix: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    untouched = Tiny()
    untouched.forward = None  # type: ignore[assignment]
    with pytest.raises(MissingExtraError, match=rf"secateur\[{extra}\]"):
        export(untouched, IMAGE, tmp_path / f"tiny.{suffix}")
    assert listing(tmp_path) == {}


def test_what_is_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.pt2").write_text("mine")
    with pytest.raises(StoreError, match="no exported file"):
        export(Tiny(), IMAGE, tmp_path / "mine.pt2")
    with pytest.raises(StoreError, match=r"end in \.onnx"):
        export(Tiny(), IMAGE, tmp_path / "mine.pt2", options=ExportOptions(format="onnx"))
    with pytest.raises(ExportError, match="does not say the format"):
        export(Tiny(), IMAGE, tmp_path / "mine.bin")
    assert listing(tmp_path) == {"mine.pt2": b"mine"}
    assert secateur("export", "lenet5").code == 2


@pytest.mark.parametrize(
    ("name", "size", "other"), [("batch", 3, 2), ("batch", 1, 3), ("length", 2, 3), ("length", 9, 6)]
)
def test_free_sizes_are_run_at_another_value(name: str, size: int, other: int) -> None:
    assert _other(name, size) == other


def test_a_pruned_network_keeps_fewer_bytes(tmp_path: Path) -> None:
    before = export(Tiny(), IMAGE, tmp_path / "before.pt2")
    small = sc.prune(Tiny(), IMAGE, budget={"channels": 0.5}).model
    after = export(small, IMAGE, tmp_path / "after.pt2")
    assert after.size_bytes["after.pt2"] < before.size_bytes["before.pt2"]
