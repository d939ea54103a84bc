"""Language models of transformers with zeros in place of weights: text in, a folder out that transformers loads."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from calling import secateur
from small_llama import TEXT, llama, write_llama

import secateur as sc
from secateur.sparse import as_tensors, masks_of, sparsity
from secateur.sparse.reconstruction import reconstruct

transformers = pytest.importorskip("transformers")
DECODER = ("--targets", "Linear", "--ignore", "lm_head")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A language model, and a text beside it."""
    write_llama(tmp_path / "in")
    (tmp_path / "text.txt").write_text(40 * TEXT)
    return tmp_path / "in"


@pytest.mark.parametrize(
    "method",
    [
        ("--criterion", "magnitude"),
        ("--criterion", "wanda"),
        ("--criterion", "sparsegpt"),
        ("--recover", "second-order"),
    ],
    ids=lambda method: method[1],
)
def test_zeros_are_in_place_when_transformers_loads_the_folder(
    method: tuple[str, str], folder: Path, tmp_path: Path
) -> None:
    data, out = ("--data", f"text:{tmp_path / 'text.txt'}"), tmp_path / "out"
    made = secateur("prune", f"hf:{folder}", "--granularity", "2:4", *method, *DECODER, *data, "--out", out, "--json")
    assert made.code == 0, made.err
    after = made.record["after"]
    stock = transformers.AutoModelForCausalLM.from_pretrained(out)
    weights = {name: weight for name, weight in stock.named_parameters() if weight.dim() > 1}
    zeros = {name: int((weight == 0).sum()) for name, weight in weights.items()}
    assert zeros == {name: weight.numel() // 2 if "_proj" in name else 0 for name, weight in weights.items()}
    assert sparsity(stock) == after["sparsity"]
    assert set(as_tensors(masks_of(sc.load(out)))) == {name for name in weights if "_proj" in name}
    assert math.isfinite(after["perplexity"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    ids = torch.tensor(tokenizer(40 * TEXT)["input_ids"])
    rows = ids[: len(ids) // 64 * 64].reshape(-1, 64)
    rows = rows[-max(1, round(len(rows) / 5)) :]
    with torch.no_grad():
        loss = float(stock(input_ids=rows, labels=rows).loss)
    assert after["loss"] == pytest.approx(loss, rel=1e-5)
    assert after["perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
    again = secateur("evaluate", out, *data, "--json").record
    assert again["perplexity"] == pytest.approx(after["perplexity"], rel=1e-6)


def test_the_python_form_is_the_command(folder: Path, tmp_path: Path) -> None:
    from secateur.data import open_text
    from secateur.models import load_tokenizer

    options = ("--granularity", "element", "--budget", "sparsity=0.5", "--criterion", "sparsegpt", *DECODER)
    data = ("--data", f"text:{tmp_path / 'text.txt'}", "--calibration", 8)
    assert secateur("prune", f"hf:{folder}", *options, *data, "--out", tmp_path / "out").code == 0
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = load_tokenizer(f"hf:{folder}")
    text = open_text(tmp_path / "text.txt", tokenizer.encode, "train", length=tokenizer.length()).subset(8)
    result = sc.prune(
        model,
        {"input_ids": text.tokens_NL[:1]},
        granularity="element",
        budget={"sparsity": 0.5},
        criterion="sparsegpt",
        targets=["Linear"],
        ignore=["lm_head"],
        data=text.batches(256),
    )
    expected = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in result.model.state_dict().items())


def test_a_head_that_is_tied_to_the_embedding_is_meant_by_either_name() -> None:
    model, ids = llama(tie_word_embeddings=True), torch.randint(256, (1, 8))
    for names in (["lm_head"], ["model.embed_tokens"]):
        result = sc.prune(model, {"input_ids": ids}, granularity="2:4", ignore=names)
        assert int((result.model.get_parameter("model.embed_tokens.weight") == 0).sum()) == 0


def test_calibration_keeps_no_keys_and_values(monkeypatch: pytest.MonkeyPatch) -> None:
    def kept(*_: object, **__: object) -> None:
        raise AssertionError("a cache would hold activations of every layer")

    model = llama()
    monkeypatch.setattr(transformers.DynamicCache, "update", kept)
    weights = {"model.layers.1.mlp.up_proj.weight": 0.5}
    for method in ("sparsegpt", "second-order"):
        reconstruct(model, [{"input_ids": torch.randint(256, (4, 8))}], sparsity=weights, method=method)
    assert model.config.use_cache


def _no_tokenizer(folder: Path, text: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _broken_tokenizer(folder: Path, text: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def _of_another_model(folder: Path, text: Path) -> None:
    llama(vocab_size=100).save_pretrained(folder)


def _no_text(folder: Path, text: Path) -> None:
    text.write_text("")


def _reads_both_sides(folder: Path, text: Path) -> None:
    config = transformers.BertConfig(vocab_size=256, hidden_size=32, num_hidden_layers=1, num_attention_heads=4)
    transformers.BertForMaskedLM(config).save_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_no_tokenizer, "holds no tokenizer.json"),
        (_broken_tokenizer, "is no usable tokenizer"),
        (_of_another_model, "the model knows 0..99"),
        (_no_text, "no text there"),
        (_reads_both_sides, "BertForMaskedLM, no causal language model"),
    ],
)
def test_what_cannot_be_read_is_said(change: object, says: str, folder: Path, tmp_path: Path) -> None:
    assert callable(change)
    change(folder, tmp_path / "text.txt")
    data = ("--data", f"text:{tmp_path / 'text.txt'}")
    found = secateur("prune", f"hf:{folder}", "--granularity", "2:4", *data, "--out", tmp_path / "out")
    assert found.code == 2
    assert says in found.err
    assert not (tmp_path / "out").exists()


def test_heads_may_be_cut_though_their_keys_and_values_could_be_kept(folder: Path) -> None:
    kinds = secateur("inspect", f"hf:{folder}", "--format", "json").record
    heads = [axis for axis in kinds["axes"] if "heads" in axis["role"]]
    assert heads
    assert all(axis["pin"] is None for axis in heads)


def test_sequences_are_no_longer_than_the_model_takes(folder: Path, tmp_path: Path) -> None:
    data = ("--data", f"text:{tmp_path / 'text.txt'}", "--sequence-length")
    assert secateur("evaluate", f"hf:{folder}", *data, 8).code == 0
    found = secateur("evaluate", f"hf:{folder}", *data, 65)
    assert found.code == 2
    assert "sequences of 65 tokens: the model of" in found.err


def test_text_is_for_language_models_alone(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    found = secateur("evaluate", "lenet5", "--data", f"text:{tmp_path / 'text.txt'}")
    assert found.code == 2
    assert "lenet5 reads no text" in found.err
