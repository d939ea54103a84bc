"""Sizes that a configuration of transformers can say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_leaves
from transformers_networks import build

import secateur as sc
from secateur.hugging_face import described, tie_to_config
from secateur.models import build_model
from secateur.spec import BudgetError, SecateurError, StoreError
from secateur.store import read_manifest, read_run


def outputs(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    with torch.no_grad():
        return [leaf for leaf in tree_leaves(dict(model.eval()(**inputs))) if isinstance(leaf, torch.Tensor)]


def ties_of(name: str) -> list[dict[str, int]]:
    """Axes and multiples of each tie."""
    model, inputs = build(name)
    tied = tie_to_config(model, sc.trace(model, inputs))
    assert tied is not None
    assert tied.kept_whole == ()
    return [dict(tie.members) for tie in tied.structure.ties]


def test_layers_that_share_a_number_are_tied() -> None:
    ties = ties_of("mistral")
    assert {f"model.layers.{layer}.mlp.gate_proj.out": 1 for layer in (0, 1)} in ties
    assert {f"model.layers.{layer}.self_attn.q_proj.out:0": 1 for layer in (0, 1)} in ties


def test_a_width_that_is_heads_times_their_width_follows_the_heads() -> None:
    (width,) = [tie for tie in ties_of("bert") if "bert.embeddings.word_embeddings.in" in tie]
    assert width["bert.embeddings.word_embeddings.in"] == 12
    assert {f"bert.encoder.layer.{layer}.attention.self.query.out:0": 1 for layer in (0, 1)}.items() <= width.items()


def test_a_size_that_scales_activations_stays_whole() -> None:
    model, inputs = build("gemma")
    tied = tie_to_config(model, sc.trace(model, inputs))
    assert tied is not None
    assert tied.kept_whole == ("model.embed_tokens.in",)


def test_a_list_of_sizes_is_a_number_a_stage() -> None:
    model, inputs = build("resnet")
    small = sc.prune(model, inputs, budget={"channels": 0.5}).model
    assert small.config.embedding_size < 12
    assert [new < old for new, old in zip(small.config.hidden_sizes, [16, 24], strict=True)] == [True, True]
    assert described(small)


@pytest.mark.parametrize("name", ["mistral", "qwen2", "mixtral", "bert", "t5", "vit"])
def test_the_pruned_network_has_the_configuration_of_its_sizes(name: str, tmp_path: Path) -> None:
    model, inputs = build(name)
    before = model.config.to_dict()
    result = sc.prune(model, inputs, budget={"macs": 0.6})
    assert result.notes == ()
    assert described(result.model)
    assert model.config.to_dict() == before
    result.model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert all(torch.equal(a, again.get_parameter(name)) for name, a in result.model.named_parameters())


def test_a_width_of_heads_that_the_class_would_compute_anew_is_written_down() -> None:
    model, inputs = build("qwen2")
    config = sc.prune(model, inputs, budget={"macs": 0.5}).model.config
    assert config.head_dim == 8
    assert config.hidden_size != config.num_attention_heads * 8
    assert config.num_attention_heads == 3 * config.num_key_value_heads == 3


def test_what_a_configuration_cannot_say_is_said(tmp_path: Path) -> None:
    model, inputs = build("gemma")
    result = sc.prune(model, inputs, budget={"macs": 0.5})
    (note,) = result.notes
    assert "embed_scale is 6.9" in note
    assert result.model.config.hidden_size == 48
    result.save(tmp_path / "out")
    assert read_run(tmp_path / "out").notes == result.notes
    assert note in (tmp_path / "out" / "README.md").read_text()
    assert not (tmp_path / "out" / "config.json").exists()
    loaded = sc.load(tmp_path / "out")
    assert all(torch.equal(a, b) for a, b in zip(outputs(loaded, inputs), outputs(result.model, inputs), strict=True))


def test_only_what_can_be_said_is_cut_on_demand() -> None:
    model, inputs = build("gemma")
    result = sc.prune(model, inputs, budget={"macs": 0.6}, tie="config")
    assert result.notes == ()
    assert result.structure.axis["model.embed_tokens.in"].pin.code == "config"
    assert result.model.config.intermediate_size < 80


def test_the_budget_comes_before_the_configuration() -> None:
    model, inputs = build("resnet")
    floor = 0.02
    with pytest.raises(BudgetError):
        sc.prune(model, inputs, budget={"channels": floor}, tie="config", min_keep=2)
    model, inputs = build("bart")
    with pytest.raises(BudgetError, match="nearest possible"):
        sc.prune(model, inputs, budget={"macs": 0.4}, tie="config")
    assert sc.prune(model, inputs, budget={"macs": 0.4}).notes


def test_ties_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SecateurError, match="expected one of auto, config, none"):
        sc.prune(torch.nn.Linear(4, 4), torch.randn(1, 4), budget={"channels": 0.5}, tie="firm")
    with pytest.raises(SecateurError, match="needs a network of transformers"):
        sc.prune(build_model("lenet300"), torch.randn(1, 784), budget={"channels": 0.5}, tie="config")


def test_pruning_again_starts_from_the_new_configuration(tmp_path: Path) -> None:
    model, inputs = build("mistral")
    once = sc.prune(model, inputs, budget={"macs": 0.8}).model
    twice = sc.prune(once, inputs, budget={"macs": 0.6}, tie="none", allocator="global", targets=["re:mlp"])
    assert twice.notes
    twice.save(tmp_path / "out")
    loaded = sc.load(tmp_path / "out")
    assert loaded.config.hidden_size == once.config.hidden_size < 48
    assert all(torch.equal(a, b) for a, b in zip(outputs(loaded, inputs), outputs(twice.model, inputs), strict=True))


def test_a_class_of_ones_own_needs_a_factory(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")

    class OwnBert(transformers.BertModel):
        pass

    model, inputs = OwnBert(build("bert")[0].config), build("bert")[1]
    sc.prune(model, inputs, budget={"macs": 0.7}).save(tmp_path / "out")
    with pytest.raises(StoreError, match="does not say how to build"):
        sc.load(tmp_path / "out")


def test_weights_in_half_precision_come_back(tmp_path: Path) -> None:
    for name, layout in (("gemma", "secateur"), ("mistral", "transformers")):
        model, inputs = build(name)
        model.save_pretrained(tmp_path / name)
        half = type(model).from_pretrained(tmp_path / name, dtype=torch.bfloat16)
        sc.prune(half, inputs, budget={"macs": 0.6}).save(tmp_path / "small")
        assert read_manifest(tmp_path / "small").layout == layout
        assert sc.load(tmp_path / "small").model.norm.weight.dtype == torch.bfloat16
