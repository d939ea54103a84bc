"""Learning from a teacher."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from calling import secateur
from torch import Tensor, nn

import secateur as sc
from secateur.data import ImageSet, open_data
from secateur.models import build_model, example_inputs
from secateur.spec import ModelError
from secateur.surgery.masks import masked
from secateur.train import Distillation, TrainConfig, block_features, evaluate, fit

SHAPE = (1, 3, 32, 32)


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return open_data("digits", "train")


@pytest.fixture(scope="module")
def teacher(digits: ImageSet) -> nn.Module:
    model = network(3)
    fit(model, digits, config=TrainConfig(epochs=6, batch_size=64))
    return model


def test_the_loss_is_the_sum_that_the_docstring_says() -> None:
    student, teacher = network(1), network(2)
    x, y = torch.rand(6, 1, 8, 8), torch.randint(10, (6,))
    made = Distillation(student, teacher, alpha=0.3, temperature=2.0, feature_weight=5.0, features=[("1", "1")])
    logits = student(x)
    found = made.loss(logits, made.teach(x), F.cross_entropy(logits, y))
    told, own = (torch.softmax(model(x) / 2, 1) for model in (teacher, student))
    kl = (told * (told / own).log()).sum(1).mean()
    features = (student[1](x.flatten(1)) - teacher[1](x.flatten(1))).square().mean()
    expected = 0.7 * F.cross_entropy(student(x), y) + 0.3 * 4 * kl + 5 * features
    torch.testing.assert_close(found, expected)
    found.backward()
    assert student[1].weight.grad is not None
    assert all(value.grad is None for value in teacher.parameters())


def test_a_finished_distillation_leaves_no_hook() -> None:
    student, teacher = network(1), network(2)
    made = Distillation(student, teacher, feature_weight=1.0, features=[("1", "1")])
    assert student[1]._forward_hooks
    made.finish()
    assert not student[1]._forward_hooks
    assert not teacher[1]._forward_hooks


def test_a_student_learns_without_labels(digits: ImageSet, teacher: nn.Module) -> None:
    labels = torch.zeros_like(digits.labels)  # of which nothing can be learnt
    images = ImageSet(digits.images, labels, ("image",), digits.mean, digits.std)
    student = network(4)
    before = copy.deepcopy(teacher.state_dict())
    config = TrainConfig(epochs=5, batch_size=64, learning_rate=0.05)
    history = fit(student, images, config=config, distillation=Distillation(student, teacher, alpha=1))
    assert history[-1]["agreement"] > 0.9
    assert "accuracy" not in history[-1]
    assert evaluate(student, open_data("digits", "test"))["accuracy"] > 0.85
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    loader = [x for x, _ in images.batches(64)]
    assert fit(network(4), loader, config=config, distillation=Distillation(student, teacher, alpha=1))


def test_a_teacher_helps_where_there_are_few_labels(digits: ImageSet, teacher: nn.Module) -> None:
    alone, taught = network(4), network(4)
    few = digits.subset(64)
    config = TrainConfig(epochs=25, batch_size=32, learning_rate=0.1)
    fit(alone, few, config=config)
    fit(taught, few, config=config, distillation=Distillation(taught, teacher, alpha=0.9))
    test = open_data("digits", "test")
    assert evaluate(taught, test)["loss"] < evaluate(alone, test)["loss"]


def test_outputs_of_residual_blocks_are_found() -> None:
    model = build_model("resnet20", seed=1).eval()
    inputs = example_inputs("resnet20")
    inner = [f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in (0, 1, 2)]
    pruned = sc.prune(model, inputs, budget={"channels": 0.5}, targets=inner).model
    pairs = block_features(pruned, model, inputs)
    assert {"layer1.0", "layer1.2", "layer2.2", "layer3.2"} <= {pair.student for pair in pairs}
    assert all(pair.student == pair.teacher and not pair.kept for pair in pairs)
    made = Distillation(pruned, model, feature_weight=1.0, features=pairs)
    x = torch.rand(2, *SHAPE[1:])
    assert made.loss(pruned(x), made.teach(x), torch.zeros(())).isfinite()


def test_of_blocks_that_lost_channels_those_that_are_left_are_learnt() -> None:
    """Against the network before with zeros in place of what was cut; and two cuts in one."""
    model = build_model("resnet20", seed=1).eval()
    inputs = example_inputs("resnet20")
    first = sc.prune(model, inputs, budget={"params": 0.7}, criterion="random", recover="none")
    second = sc.prune(first.model, inputs, budget={"params": 0.7}, criterion="random", recover="none")
    x = torch.rand(2, *SHAPE[1:])
    kept = []
    for small, large, plan in ((first.model, model, first.plan), (second.model, first.model, second.plan)):
        pairs = block_features(small, large, inputs)
        kept.append({pair.student: pair.kept[1] for pair in pairs if pair.kept})
        with masked(large, plan) as zeroed:
            made = Distillation(small, zeroed, feature_weight=1.0, features=pairs)
            found = made.loss(small(x), made.teach(x), torch.zeros(()))
            made.finish()
        assert float(found.detach()) == pytest.approx(0, abs=1e-5)
    both = {pair.student: pair.kept[1] for pair in block_features(second.model, model, inputs) if pair.kept}
    assert kept[0].keys() & kept[1].keys()
    for name, positions in both.items():
        assert torch.equal(positions, kept[0][name][kept[1][name]])


def test_of_a_list_that_lost_blocks_the_last_ones_are_a_pair() -> None:
    model = build_model("resnet20", seed=1).eval()
    inputs = example_inputs("resnet20")
    shorter = copy.deepcopy(model)
    del shorter.layer1[1]
    pairs = block_features(shorter, model, inputs)
    assert [pair for pair in pairs if pair[0].startswith("layer1")] == [("layer1.1", "layer1.2", {})]


def test_networks_without_blocks_have_none() -> None:
    with pytest.raises(ModelError, match="name pairs of modules"):
        block_features(network(1), network(2), torch.rand(1, 1, 8, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, "expected alpha in 0..1"),
        ({"temperature": 0.0}, "a temperature above 0"),
        ({"feature_weight": 1.0}, "give both or neither"),
        ({"feature_weight": 1.0, "features": [("1", "7")]}, "the teacher has no module 7"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Distillation(network(1), network(2), **options)


@pytest.mark.parametrize(("features", "message"), [([("1", "3")], "features need equal shapes"), ([], "same classes")])
def test_networks_that_do_not_fit_are_refused(features: list[tuple[str, str]], message: str) -> None:
    def told(made: Distillation, x: Tensor) -> Tensor:
        return made.teach(x) if features else torch.zeros(4, 3)

    student = network(1)
    made = Distillation(student, network(2), alpha=1, feature_weight=float(bool(features)), features=features)
    x = torch.rand(4, 1, 8, 8)
    with pytest.raises(ModelError, match=message):
        made.loss(student(x), told(made, x))


def test_the_command_line_learns_from_the_dense_network(tmp_path: Path) -> None:
    training = ["--data", "digits", "--limit", 256, "--epochs", 1, "--json"]
    dense, small = tmp_path / "dense", tmp_path / "small"
    assert secateur("train", "lenet5", *training, "--out", dense).code == 0
    assert secateur("prune", dense, "--budget", "channels=0.5", "--out", small).code == 0
    taught = secateur("finetune", small, *training, "--distill", dense, "--out", tmp_path / "taught")
    assert taught.code == 0, taught.err
    weights = dense / "model.safetensors"
    blind = secateur(
        *("finetune", small, *training, "--out", tmp_path / "blind"),
        *("--distill", weights, "--unlabelled", "digits", "--distill-temperature", 2),
    )
    assert blind.code == 0, blind.err
    assert "agreement" in blind.err
    assert blind.record["after"] != taught.record["after"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--unlabelled", "digits"), "needs a teacher"),
        (("--distill", "lenet5"), "has random weights"),
        (("--distill-features", 1, "--distill", "{dense}"), "no features to learn from"),
        (("--validation", 1.0), "leaves 64 of 64 images"),
        (("--early-stopping", 0), "early_stopping=0"),
        (("--precision", "fp8"), "expected fp32 or bf16 or fp16"),
    ],
)
def test_bad_options_are_one_message(options: tuple[object, ...], message: str, tmp_path: Path) -> None:
    dense = tmp_path / "dense"
    training = ["train", "lenet5", "--data", "digits", "--limit", 64, "--max-steps", 1]
    assert secateur(*training, "--out", dense).code == 0
    found = secateur(
        *training, "--out", tmp_path / "new", *(str(part).replace("{dense}", str(dense)) for part in options)
    )
    assert found.code == 2
    assert message in found.err
    assert not (tmp_path / "new").exists()
