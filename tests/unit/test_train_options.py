"""What training can be asked for, each against an independent computation of a few steps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from secateur.data import ImageSet, open_data
from secateur.spec import DataError, SecateurError
from secateur.train import Distillation, TrainConfig, evaluate, fit
from secateur.train.batches import Batches
from secateur.train.schedule import rate

QUICK = TrainConfig(epochs=1, batch_size=64, learning_rate=0.1, max_steps=5, schedule="constant", weight_decay=0.0)


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return open_data("digits", "train").subset(320)


def network(*, with_norm: bool = False) -> nn.Sequential:
    torch.manual_seed(5)
    norm = nn.BatchNorm1d(32) if with_norm else nn.Identity()
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), norm, nn.ReLU(), nn.Linear(32, 10))


def batches_of(images: ImageSet, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    return list(images.batches(64, shuffle=True, seed=seed, drop_last=True))


def by_hand(model: nn.Module, images: ImageSet, loss_of: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> list[Any]:
    """Five steps of SGD with momentum; the weights after each."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    after: list[Any] = []
    for x, y in batches_of(images):
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        optimizer.step()
        after.append({name: value.detach().clone() for name, value in model.state_dict().items()})
    return after


def assert_same(model: nn.Module, expected: dict[str, Tensor]) -> None:
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6, msg=name)


def test_labels_are_smoothed(digits: ImageSet) -> None:
    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        target = 0.8 * F.one_hot(y, 10) + 0.2 / 10
        return -(target * model(x).log_softmax(1)).sum(1).mean()

    model, expected = network(), by_hand(network(), digits, loss)[-1]
    fit(model, digits, config=replace(QUICK, label_smoothing=0.2))
    assert_same(model, expected)


def test_images_and_labels_are_mixed_in_pairs(digits: ImageSet) -> None:
    generator = np.random.default_rng(0)

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        weight = generator.beta(0.4, 0.4)
        order = torch.from_numpy(generator.permutation(64))
        target = weight * F.one_hot(y, 10) + (1 - weight) * F.one_hot(y[order], 10)
        return -(target * model(weight * x + (1 - weight) * x[order]).log_softmax(1)).sum(1).mean()

    model, expected = network(), by_hand(network(), digits, loss)[-1]
    fit(model, digits, config=replace(QUICK, mixup=0.4))
    assert_same(model, expected)


@pytest.fixture(scope="module")
def uneven(digits: ImageSet) -> ImageSet:
    """320 images, of digit d about d + 1 times as many as of 0."""
    order = torch.multinomial((digits.labels + 1).double(), 320, True, generator=torch.Generator().manual_seed(0))
    return replace(digits, images=digits.images[order], labels=digits.labels[order])


@pytest.mark.parametrize("parts", [1, 3])
def test_classes_weigh_alike_with_all_that_labels_go_through(parts: int, uneven: ImageSet) -> None:
    """Smoothed and mixed labels weigh what their classes weigh; the teacher's answers do not."""
    generator, teacher = np.random.default_rng(0), network(with_norm=True).eval()
    weights = 320 / (10 * torch.tensor([(uneven.labels == digit).sum() for digit in range(10)]))
    assert weights.max() > 3 * weights.min()

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        share = generator.beta(0.4, 0.4)
        order = torch.from_numpy(generator.permutation(64))
        x = share * x + (1 - share) * x[order]
        target = 0.9 * (share * F.one_hot(y, 10) + (1 - share) * F.one_hot(y[order], 10)) + 0.1 / 10
        on_labels = -(weights * target * model(x).log_softmax(1)).sum(1).mean()
        told, said = (teacher(x) / 2).softmax(1).detach(), (model(x) / 2).log_softmax(1)
        return 0.7 * on_labels + 0.3 * 4 * (told * (told.log() - said)).sum(1).mean()

    model, expected = network(), by_hand(network(), uneven, loss)[-1]
    config = replace(QUICK, class_weights="balanced", mixup=0.4, label_smoothing=0.1, accumulate=parts)
    fit(model, uneven, config=config, distillation=Distillation(model, teacher, alpha=0.3, temperature=2))
    assert_same(model, expected)


def test_weights_of_classes_need_labels_that_can_be_counted(digits: ImageSet) -> None:
    config, model = replace(QUICK, class_weights="balanced"), network()
    with pytest.raises(SecateurError, match="a loader does not tell its own"):
        fit(model, batches_of(digits), config=config)
    with pytest.raises(SecateurError, match="a teacher alone reads none"):
        fit(model, digits, config=config, distillation=Distillation(model, network(), alpha=1))
    with pytest.raises(DataError, match="class 'ten' has no training image"):
        fit(model, replace(digits, classes=(*digits.classes, "ten")), config=config)
    with pytest.raises(SecateurError, match="the model gives 12 scores per image, the data has 10 classes"):
        fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 12)), digits, config=config)


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y)


def test_the_model_ends_with_the_moving_average(digits: ImageSet) -> None:
    steps = by_hand(network(with_norm=True), digits, cross_entropy)
    expected = steps[0]
    for count, current in enumerate(steps[1:], 1):
        decay = min(0.25, (1 + count) / (10 + count))
        expected = {
            name: (decay * value + (1 - decay) * current[name]).to(value.dtype) for name, value in expected.items()
        }
    model = network(with_norm=True)
    fit(model, digits, config=replace(QUICK, ema=0.25))
    assert_same(model, expected)


@pytest.mark.parametrize("parts", [3, 64])
def test_parts_of_a_batch_add_up_to_the_whole(parts: int, digits: ImageSet) -> None:
    whole, parted = network(), network()
    records = [
        fit(model, digits, config=replace(QUICK, accumulate=count))[0] for model, count in ((whole, 1), (parted, parts))
    ]
    assert_same(parted, whole.state_dict())
    assert records[0]["loss"] == pytest.approx(records[1]["loss"], rel=1e-5)
    assert records[0]["accuracy"] == pytest.approx(records[1]["accuracy"])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_less_precision_trains_as_well(precision: Any, digits: ImageSet) -> None:
    seen: list[torch.dtype] = []
    model = network()
    model[1].register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    config = replace(QUICK, precision=precision, max_steps=None, epochs=8)
    history = fit(model, digits, config=config)
    assert set(seen) == {{"bf16": torch.bfloat16, "fp16": torch.float16}[precision]}
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert history[-1]["accuracy"] > 0.85


def test_channels_lie_last_while_training_and_nowhere_else(digits: ImageSet) -> None:
    def convolutional() -> nn.Sequential:
        torch.manual_seed(5)
        return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(64, 10))

    plain, last = convolutional(), convolutional()
    seen: set[tuple[int, ...]] = set()
    last[2].register_forward_hook(lambda module, _inputs, _output: seen.add(module.weight.stride()))
    fit(plain, digits, config=QUICK)
    fit(last, digits, config=replace(QUICK, channels_last=True))
    assert seen == {(54, 1, 18, 6)}
    assert last[2].weight.is_contiguous()
    assert_same(last, plain.state_dict())


def test_methods_see_gradients_without_the_scale_of_the_loss(digits: ImageSet) -> None:
    largest: list[float] = []

    class Watching:
        def __init__(self, model: nn.Module) -> None:
            self.model = model

        def step(self, take: Callable[[], None]) -> None:
            largest.append(max(float(value.grad.abs().max()) for value in self.model.parameters()))
            take()

    for precision in ("fp32", "fp16"):
        model = network()
        fit(model, digits, config=replace(QUICK, precision=precision, max_steps=1), methods=[Watching(model)])
    assert largest[1] == pytest.approx(largest[0], rel=0.02)


def test_early_stopping_goes_back_to_the_best(digits: ImageSet) -> None:
    seen: list[dict[str, Tensor]] = []
    model = network()
    config = replace(QUICK, epochs=12, max_steps=None, learning_rate=0.5, early_stopping=2)
    validation = open_data("digits", "test")
    history = fit(
        model,
        digits,
        config=config,
        validation=validation,
        on_epoch=lambda _: seen.append({name: value.clone() for name, value in model.state_dict().items()}),
    )
    scores = [(record["validation_accuracy"], -record["validation_loss"]) for record in history]
    best = scores.index(max(scores))
    assert len(history) == best + 3 < 12
    assert_same(model, seen[best])
    assert evaluate(model, validation)["accuracy"] == history[best]["validation_accuracy"]


def test_early_stopping_needs_a_validation(digits: ImageSet) -> None:
    with pytest.raises(SecateurError, match="give validation"):
        fit(network(), digits, config=replace(QUICK, early_stopping=2))


def test_a_step_schedule_falls_to_a_tenth_twice() -> None:
    assert [rate("step", step, 8) for step in range(8)] == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing=1.0: must be at least 0 and below 1"),
        ({"ema": -0.1}, "ema=-0.1"),
        ({"mixup": float("nan")}, "mixup=nan"),
        ({"accumulate": 0}, "accumulate=0"),
        ({"early_stopping": 0}, "early_stopping=0"),
        ({"class_weights": "even"}, "class_weights='even': expected none or balanced"),
        ({"precision": "fp8"}, "precision='fp8': expected fp32 or bf16 or fp16"),
    ],
)
def test_senseless_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SecateurError, match=message):
        TrainConfig(**options)


def test_a_loader_of_the_users_own_serves(digits: ImageSet) -> None:
    x, y = (torch.cat(parts) for parts in zip(*batches_of(digits), strict=True))
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    model = network()
    torch.manual_seed(0)  # as for the first epoch
    order = [(x.clone(), y.clone()) for x, y in loader]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for images, labels in order:
        optimizer.zero_grad()
        cross_entropy(model, images, labels).backward()
        optimizer.step()
    trained = network()
    history = fit(trained, loader, config=QUICK)
    assert history[0]["steps"] == 5
    assert_same(trained, model.state_dict())


def test_a_loader_is_not_augmented_and_has_labels(digits: ImageSet) -> None:
    x, _ = batches_of(digits)[0]
    with pytest.raises(SecateurError, match="augment=True is for images in memory"):
        fit(network(), DataLoader(TensorDataset(x)), config=replace(QUICK, augment=True))
    with pytest.raises(DataError, match="the data has no labels"):
        fit(network(), [x], config=QUICK)


def test_what_hangs_on_a_model_is_not_copied_for_the_average(digits: ImageSet) -> None:
    model, lock = network(), threading.Lock()  # which nothing can copy
    model.register_forward_hook(partial(lambda _lock, _module, _inputs, output: output, lock))
    assert len(fit(model, digits, config=replace(QUICK, ema=0.5))) == 1


def test_a_distributed_sampler_shares_out_by_itself_and_anew_in_each_epoch() -> None:
    numbers = TensorDataset(torch.arange(40.0))
    seen: dict[int, list[list[float]]] = {}
    for rank in (0, 1):
        sampler = DistributedSampler(numbers, num_replicas=2, rank=rank)
        batches = Batches(DataLoader(numbers, batch_size=5, sampler=sampler), replace(QUICK, batch_size=10))
        seen[rank] = [torch.cat([batch.images for batch in batches.epoch(n, 0)]).tolist() for n in (0, 1)]
    assert sorted(seen[0][0] + seen[1][0]) == list(range(40))
    assert seen[0][0] != seen[0][1]
