"""Networks taken apart: parts make what the whole makes, and bytes are those that some kept weight asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calling import secateur
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from secateur.models import build_model
from secateur.partition import CrossingLasso, CrossingTarget, Split, Topology, partition, prune_crossings, worth
from secateur.partition.assignment import Affinity, belonging_together, contiguous, dependence_across
from secateur.partition.budget import Limit
from secateur.partition.by_hand import read_owners
from secateur.partition.choosing import choose, seconds_with
from secateur.partition.device import Device, find_sendings, run_together, shard_bytes
from secateur.partition.document import OpRecord, SplitRecord
from secateur.partition.folder import RECORD, read_record, read_shard, shard_name
from secateur.partition.owners import Owners, without_conflicts
from secateur.partition.timing import estimate
from secateur.partition.traffic import find_traffic
from secateur.score.gradients import batches
from secateur.sparse import apply_masks_
from secateur.spec import BudgetError, PlanError, SecateurError, StoreError
from secateur.spec.expr import Concat, Product
from secateur.structure import clone
from secateur.train import TrainConfig, fit
from secateur.train.methods import ADMM


class Mixed(nn.Module):
    """Depthwise and grouped convolutions, a concatenation, a gate, norms over channels, and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.side = nn.Conv2d(8, 4, 1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 12, 1), nn.Sigmoid())
        self.norm = nn.GroupNorm(1, 12)
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)
        self.last = nn.LayerNorm(12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.deep(self.stem(x)))
        x = torch.cat([x, self.side(x)], dim=1)
        x = self.norm(x * self.gate(x))
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head(self.last(tokens).mean(1))


def built(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    if name == "mixed":
        return Mixed().eval(), torch.randn(2, 3, 6, 6)
    return build_model(name).eval(), torch.randn(2, *((1, 32, 32) if name == "lenet5" else (3, 32, 32)))


@pytest.mark.parametrize("devices", [2, 4, 5])
@pytest.mark.parametrize("strategy", ["filters", "layers"])
@pytest.mark.parametrize("name", ["lenet5", "vgg9_bn", "resnet20", "mixed"])
def test_parts_make_what_the_whole_makes(tmp_path: Path, name: str, strategy: Any, devices: int) -> None:
    model, x = built(name)
    split = partition(model, x, Topology(devices=devices, home=devices - 1), strategy=strategy)
    (made,) = split.run(model, x)
    torch.testing.assert_close(made, model(x), rtol=1e-5, atol=1e-5)
    if strategy == "filters":
        assert {device for step in split.arrangement.steps for device in step.runners} == set(range(devices))
    split.save(tmp_path / "split", model)
    record = read_record(tmp_path / "split")
    arrangement, needs = record.arrangement(), record.find_needs()
    found = [Device(arrangement, needs, read_shard(tmp_path / "split", record, n), n) for n in range(devices)]
    with torch.no_grad():
        (again,) = run_together(found, find_sendings(arrangement, needs), [x])
    assert torch.equal(again, made)


def by_hand(model: nn.Module, own: dict[str, np.ndarray], devices: int) -> np.ndarray:
    """Bytes a sample of lenet5: an input map crosses if a kernel that is not zero reads it elsewhere."""
    crossing = np.zeros((devices, devices), dtype=int)
    home = np.zeros(1, dtype=int)
    layers = [
        ("conv1", home, own["conv1.out"], 32 * 32),
        ("conv2", own["conv1.out"], own["conv2.out"], 14 * 14),
        ("fc1", np.repeat(own["conv2.out"], 25), own["fc1.out"], 1),
        ("fc2", own["fc1.out"], own["fc2.out"], 1),
        ("fc3", own["fc2.out"], np.zeros(10, dtype=int), 1),
    ]
    for name, senders, receivers, entries in layers:
        weight = model.get_parameter(f"{name}.weight").detach()
        for place, sender in enumerate(senders):
            for receiver in range(devices):
                if receiver != sender and weight[receivers == receiver][:, place].any():
                    crossing[sender, receiver] += 4 * entries
    return crossing


@pytest.mark.parametrize("zeros", [0.0, 0.9, 0.995])
def test_bytes_are_those_of_maps_that_a_kept_kernel_reads(zeros: float) -> None:
    model, x = built("lenet5")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("weight"):
                kernels = torch.rand(weight.shape[:2]) < zeros
                weight[kernels] = 0
    split = partition(model, x, 3)
    wanted = by_hand(model, dict(split.arrangement.owners.axes), 3)
    assert np.array_equal(split.traffic(model).bytes, 2 * wanted)


def test_pruned_crossings_keep_to_the_budget_to_links_and_to_memory(tmp_path: Path) -> None:
    model, x = built("lenet5")
    links = {"devices": 3, "unlike": [{"devices": [1, 2], "missing": True}, {"devices": [0, 1], "most_bytes": 3000}]}
    split = partition(model, x, Topology.model_validate(links))
    with pytest.raises(PlanError, match="prune with this topology first"):
        split.save(tmp_path / "split", model)
    data = [torch.randn(32, 1, 32, 32) for _ in range(4)]
    made = prune_crossings(
        model, split, 0.5, data, recover="refit", evaluate=lambda network: float(network(x).detach().sum())
    )
    bytes_ = split.traffic(made.model).bytes // 2
    assert 0.4 * made.bytes_before < made.bytes_after == bytes_.sum() <= 0.5 * made.bytes_before
    assert bytes_[1, 2] == bytes_[2, 1] == 0 and 0 < bytes_[0, 1] <= 3000 and 0 < bytes_[1, 0] <= 3000
    assert list(made.stages) == ["before", "cut", "refit"]
    (parts,) = split.run(made.model, x)
    torch.testing.assert_close(parts, made.model(x), rtol=1e-5, atol=1e-5)
    assert all(not made.model.get_parameter(name)[~mask].any() for name, mask in made.masks.items())
    split.save(tmp_path / "split", made.model)
    assert not list(tmp_path.glob(".*"))
    small = Topology(devices=3, memory_bytes=(None, 1000, None))
    with pytest.raises(BudgetError, match=r"device 1 would hold .* it has room for 1000"):
        partition(model, x, small).save(tmp_path / "other", model)
    with pytest.raises(BudgetError, match=r"device 1 holds .* whatever crosses, and has room for 1000"):
        CrossingTarget(model, partition(model, x, small), 0.5)


def test_what_devices_hold_is_told_beforehand_and_kept_to(tmp_path: Path) -> None:
    model, x = built("lenet5")
    split = partition(model, x, 3)
    crossings = split.crossings
    record = split.save(tmp_path / "whole", model)
    stored = [sum(int(np.prod(shape)) for shape in shard.shapes.values()) * 4 for shard in record.shards]
    assert shard_bytes(split.arrangement, split.needs(model)).tolist() == stored
    most = int(0.7 * stored[1])
    limited = partition(model, x, Topology(devices=3, memory_bytes=(None, most, None)))
    found = prune_crossings(model, limited, 1.0, [torch.randn(32, 1, 32, 32)], recover="none")
    held = shard_bytes(limited.arrangement, limited.needs(found.model))
    assert 0.65 * stored[1] < held[1] <= most and held[0] == stored[0]
    kept = np.isin(np.arange(len(crossings)), np.flatnonzero(crossings.receiver != 1))
    apply_masks_(model, crossings.masks(kept, dict(model.named_parameters())))
    assert shard_bytes(split.arrangement, split.needs(model))[1] <= crossings.held[1]


class Repeating(nn.Module):
    """One layer three times over."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(3):
            x = torch.relu(self.layer(x))
        return x


@pytest.mark.parametrize("strategy", ["filters", "layers"])
def test_weights_of_many_steps_are_held_once(tmp_path: Path, strategy: Any) -> None:
    model, x = Repeating(), torch.randn(2, 12)
    split = partition(model, x, 2, strategy=strategy)
    record = split.save(tmp_path / "split", model)
    stored = sum(int(np.prod(shape)) for shard in record.shards for shape in shard.shapes.values())
    assert stored == 12 * 12 + 12 == shard_bytes(split.arrangement, split.needs(model)).sum() // 4


def test_what_cannot_be_met_is_refused() -> None:
    model, x = built("mixed")
    cut_off = Topology.model_validate({"devices": 2, "links": {"missing": True}})
    with pytest.raises(BudgetError, match=r"must cross from device . to ., whose link is missing"):
        CrossingTarget(model, partition(model, x, cut_off), 0.5)
    with pytest.raises(BudgetError, match="cross whatever the weights are"):
        CrossingTarget(model, partition(model, x, 2), 1.5)
    with pytest.raises(BudgetError, match=r"budget bytes=-1\.0 between devices: expected share"):
        CrossingTarget(model, partition(model, x, 2), -1.0)


@given(
    values=st.lists(st.floats(0, 10), min_size=1, max_size=8),
    share=st.floats(0.05, 1),
)
@settings(max_examples=30, deadline=None)
def test_the_most_valuable_crossings_of_one_size_are_kept(values: list[float], share: float) -> None:
    """With entries of one size the choice is the best there is."""
    model = nn.Sequential(nn.Linear(4, 2 * len(values)), nn.ReLU(), nn.Linear(2 * len(values), 3)).eval()
    crossings = partition(model, torch.randn(1, 4), 2).crossings
    worth = np.resize(values, len(crossings))
    kept = choose(crossings, worth, Topology(devices=2), Limit(share * crossings.total()))
    count = int(share * crossings.total() // 4)
    assert kept.sum() == min(count, len(crossings))
    assert np.sort(worth[kept]).sum() == pytest.approx(np.sort(worth)[::-1][: kept.sum()].sum())


def test_channels_that_belong_together_meet_on_one_device() -> None:
    """Two blocks of channels that have nothing to do with each other, shuffled."""
    generator = np.random.default_rng(0)
    inside, outside = generator.permutation(8), generator.permutation(12)
    values = (inside[:, None] < 4) == (outside[None, :] < 6)
    start = contiguous(["a", "b"], {"a": 8, "b": 12}, np.array([0.5, 0.5]), 0)
    found = belonging_together(start, [Affinity(values.astype(float), "a", "b")], Topology.alike(2).costs)
    assert [np.bincount(found.axes[axis]).tolist() for axis in ("a", "b")] == [[4, 4], [6, 6]]
    assert len({(int(found.axes["a"][i]), int(inside[i] < 4)) for i in range(8)}) == 2
    assert not values[found.axes["a"][:, None] != found.axes["b"][None, :]].any()


def test_what_depends_on_each_other_is_as_near_as_links_are_fast() -> None:
    """Pairs of channels depend on each other; devices 0 and 2 are near, 1 and 3, too; 0 and 3 have no link."""
    found = Topology.model_validate(
        {
            "devices": 4,
            "unlike": [{"devices": pair, "mbit_per_s": 1e4} for pair in ([0, 2], [1, 3])]
            + [{"devices": [0, 3], "missing": True}],
        }
    ).costs
    assert found[0, 2] < found[0, 1] == found[2, 3] < found[0, 3] and found.diagonal().sum() == 0
    assert found.sum() == pytest.approx(12)
    values = np.kron(np.eye(2), np.ones((2, 2)))
    start = contiguous(["a", "b"], {"a": 4, "b": 4}, np.full(4, 0.25), 0)
    owners = belonging_together(start, [Affinity(values, "a", "b")], found)
    assert {frozenset(owners.axes[axis][pair].tolist()) for axis in "ab" for pair in ([0, 1], [2, 3])} == {
        frozenset({0, 2}),
        frozenset({1, 3}),
    }


def test_where_a_dimension_is() -> None:
    owners = Owners(3, 2, {"a": np.array([0, 1]), "b": np.array([1, 0, 0])}, {"a": 2, "b": 3, "c": 2})
    assert owners.along(Product(("a", 2))).tolist() == [0, 0, 1, 1]
    assert owners.along(Concat(("b", 1, "a"))).tolist() == [1, 0, 0, 2, 0, 1]
    assert owners.along(Product((2, "b"))).tolist() == [1, 0, 0, 1, 0, 0]
    assert owners.along("c") is None
    assert owners.spread_dim([4, "c", Product(("a", 2))]) == 2
    crossing = [[1, "a", "b"], [Concat(("a", "c"))]]
    assert without_conflicts(["b", "a", "c"], crossing) == ["b", "c"]


def test_admm_and_lasso_drive_crossings_to_zero() -> None:
    model, x = built("lenet5")
    split = partition(model, x, 2)
    target = CrossingTarget(model, split, 0.3)
    method = ADMM(target, rho=0.1, growth=1.2, every=10)
    images = torch.randn(64, 1, 32, 32)
    labels = model(images).argmax(1)
    data = [(images[start : start + 16], labels[start : start + 16]) for start in range(0, 64, 16)]
    config = TrainConfig(epochs=40, learning_rate=0.05, schedule="constant", weight_decay=0.0)
    fit(model, data, config=config, methods=[method])
    assert method.residual < 0.05
    apply_masks_(model, target.masks(dict(model.named_parameters())))
    total = split.crossings.total()
    assert 0.25 * total < split.traffic(model).total / 2 <= 0.3 * total

    model, x = built("lenet5")
    before = split.crossings.norms(dict(model.named_parameters()))
    strength = float(np.sqrt(before).mean())
    lasso = CrossingLasso(model, split, strength=strength)
    lasso.step(lambda: None)
    costs = split.crossings.bytes / split.crossings.bytes.mean()
    wanted = np.maximum(0, np.sqrt(before) - strength * costs)
    assert np.sqrt(split.crossings.norms(dict(model.named_parameters()))) == pytest.approx(wanted, abs=1e-5)
    assert split.traffic(model).total / 2 == split.crossings.total(wanted > 0)


@pytest.mark.parametrize(
    "method", ["admm-crossings:split={},bytes=0.3,strength=0.001", "lasso-crossings:split={},strength=0.02"]
)
def test_training_by_name_needs_less_between_devices(tmp_path: Path, method: str) -> None:
    data = ("--data", "digits", "--limit", "256")
    assert secateur("train", "lenet5", *data, "--epochs", "1", "--out", tmp_path / "net").code == 0
    assert secateur("partition", tmp_path / "net", *data, "--devices", "2", "--out", tmp_path / "apart").code == 0
    given = ("finetune", tmp_path / "net", *data, "--epochs", "2", "--out", tmp_path / "less", "--method")
    tuned = secateur(*given, method.format(tmp_path / "apart"))
    assert tuned.code == 0, tuned.err
    assert f"next: secateur partition {tmp_path / 'less'} --like {tmp_path / 'apart'}" in tuned.out
    again = ("finetune", tmp_path / "less", *data, "--epochs", "1", "--out", tmp_path / "tuned")
    assert secateur(*again).code == 0
    crossing = [
        np.sum(secateur("partition", tmp_path / name, "--like", tmp_path / "apart", "--json").record["bytes"])
        for name in ("net", "less", "tuned")
    ]
    assert crossing[1] <= (0.3 if "bytes" in method else 0.9) * crossing[0]
    assert crossing[2] == crossing[1] > 0


def test_training_by_name_asks_between_which_devices() -> None:
    refused = secateur("train", "lenet5", "--data", "digits", "--out", "nowhere", "--method", "admm-crossings")
    assert "between which devices? Give split=DIR" in refused.err


def test_a_saved_partition_is_read_back_and_proved(tmp_path: Path) -> None:
    model, x = built("resnet20")
    split = partition(model, x, 3)
    record = split.save(tmp_path / "split", model, {"model": "resnet20"})
    found = read_record(tmp_path / "split")
    assert found == record
    assert np.array_equal(find_traffic(found.arrangement(), found.find_needs()).bytes, split.traffic(model).bytes)
    with pytest.raises(StoreError, match="not empty"):
        split.save(tmp_path / "split", model)
    with pytest.raises(StoreError, match="holds no partition"):
        read_record(tmp_path)
    shard = tmp_path / "split" / shard_name(1)
    whole = shard.read_bytes()
    for broken in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        shard.write_bytes(broken)
        with pytest.raises(StoreError, match=r"is not the shard that partition\.json tells of"):
            read_shard(tmp_path / "split", record, 1)
    shard.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        read_shard(tmp_path / "split", record, 1)


@pytest.mark.parametrize("name", ["from_file.default", "no_such_operator.default", "__class__.mro"])
def test_a_record_runs_no_operator_without_a_rule(tmp_path: Path, name: str) -> None:
    model, x = built("lenet5")
    partition(model, x, 2).save(tmp_path / "split", model)
    record = read_record(tmp_path / "split")
    ops = (OpRecord(name, ("/etc/passwd", None, 10), {}, record.ops[0].outputs), *record.ops[1:])
    forged = SplitRecord(**{**vars(record), "ops": ops})
    (tmp_path / "split" / RECORD).write_text(forged.to_json())
    with pytest.raises(StoreError, match="was changed after it was written"):
        read_record(tmp_path / "split")
    (tmp_path / "split" / RECORD).write_text(forged.signed().to_json())
    with pytest.raises(StoreError, match="has no rule in this Secateur; not run"):
        read_record(tmp_path / "split").arrangement()


class Up(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.deep = nn.ConvTranspose2d(3, 8, 2, stride=2), nn.Conv2d(8, 8, 3, groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.deep(self.up(x)).mean((2, 3))


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "mixed", "up"])
def test_estimated_times(name: str) -> None:
    """One device takes as long as it does; of several each does its share, and links delay what crosses them."""
    model, x = (Up().eval(), torch.randn(2, 3, 6, 6)) if name == "up" else built(name)
    alone = partition(model, x, 1)
    times = estimate(alone.arrangement, alone.needs(model), alone.topology)
    assert times.critical == pytest.approx(times.alone) == pytest.approx(times.compute.sum())
    split = partition(model, x, Topology.model_validate({"devices": 2, "links": {"mbit_per_s": 8, "latency_ms": 5}}))
    both = estimate(split.arrangement, split.needs(model), split.topology)
    assert both.transfer == pytest.approx(split.traffic(model).bytes / 1e6)
    if name != "up":  # whose axes are all tied to groups: whole at home
        assert both.critical >= both.transfer.max() + 0.005
        assert both.compute.max() < times.alone
    one = estimate(split.arrangement, split.needs(model), split.topology, samples=1)
    assert one.transfer == pytest.approx(both.transfer / 2) and one.compute == pytest.approx(both.compute / 2)
    if name == "lenet5":  # latency does not become less: inputs, three layers in between, and the scores
        assert one.critical > 0.02


@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.parametrize("name", ["mixed", "in groups"])
def test_alone_a_device_does_each_operator_once(name: str, devices: int) -> None:
    """Of a grouped convolution whose groups are of two devices each does all, and one that is alone does it once."""
    model, x = built("mixed")
    if name == "in groups":
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 12, 3, groups=3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        model = nn.Sequential(*layers, nn.Linear(12, 5)).eval()
    one, several = (partition(model, x, count) for count in (1, devices))
    alone = [estimate(split.arrangement, split.needs(model), split.topology).alone for split in (one, several)]
    assert alone[1] == pytest.approx(alone[0])


def test_alone_a_device_need_not_do_either_what_was_pruned() -> None:
    model, x = built("resnet20")
    split = partition(model, x, 4)
    alone = estimate(split.arrangement, split.needs(model), split.topology).alone
    small = clone(model)
    apply_masks_(small, CrossingTarget(small, split, 0.2).masks(dict(small.named_parameters())))
    found = estimate(split.arrangement, split.needs(small), split.topology)
    assert 0.9 * found.compute.sum() < found.alone <= 1.001 * found.compute.sum() < 0.8 * alone


class Looking(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * float(x.abs().max())


class Writing(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = super().forward(x)
        made.view(-1).clamp_(-5, 5)
        return made + 1


@pytest.mark.parametrize(("model", "said"), [(Looking(4, 6), "looks at values"), (Writing(4, 6), "another view")])
def test_networks_that_do_otherwise_for_other_inputs_are_refused(model: nn.Module, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        partition(model, torch.randn(2, 4), 2)


def test_a_recurrent_network_is_whole_at_home() -> None:
    torch.manual_seed(0)
    model = nn.LSTM(4, 8, batch_first=True).eval()
    split = partition(model, torch.randn(2, 5, 4), 2)
    assert split.traffic(model).total == 0


def test_a_second_round_saves_more_and_keeps_zeros() -> None:
    model, x = built("lenet5")
    split = partition(model, x, 3)
    data = [torch.randn(32, 1, 32, 32) for _ in range(2)]
    first = prune_crossings(model, split, 0.5, data, recover="refit")
    second = prune_crossings(first.model, split, 0.5, data, recover="refit")
    assert second.bytes_before == first.bytes_after and second.bytes_after <= 0.5 * first.bytes_after
    assert all(not second.model.get_parameter(name)[~mask].any() for name, mask in first.masks.items())


def test_bytes_without_a_link_are_told(tmp_path: Path) -> None:
    links = tmp_path / "links.yaml"
    links.write_text("devices: 2\nunlike: [{devices: [0, 1], missing: true}]")
    found = secateur("partition", "lenet5", "--devices", "2", "--topology", str(links))
    assert found.code == 0 and "have no link to cross" in found.out and "Mbit/s" not in found.out
    other = secateur("partition", "lenet5", "--devices", "3", "--topology", str(links))
    assert other.code == 2 and "--devices 3, but the topology has 2" in other.err


class Blurred(nn.Module):
    """Its second convolution has weights that are no parameter."""

    kernel: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1)
        self.register_buffer("kernel", torch.randn(8, 8, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.nn.functional.conv2d(torch.relu(self.first(x)), self.kernel)).mean((2, 3))


def test_what_reads_with_weights_that_are_no_parameters_crosses_whatever_is_pruned() -> None:
    torch.manual_seed(0)
    model, x = Blurred().eval(), torch.randn(4, 3, 8, 8)
    split = partition(model, x, 2, strategy="auto", data=[x])
    assert {site.weight for site in split.crossings.sites} == {"first.weight", "last.weight"}
    fixed = split.crossings.fixed.sum()
    assert fixed > 0
    found = prune_crossings(model, split, int(fixed), [x])
    assert found.bytes_after == fixed
    assert CrossingTarget(model, split, float(fixed)).weights.keys() == {"first.weight", "last.weight"}


class Attending(nn.Module):
    """Layers that read the same tokens."""

    def __init__(self, readers: int, inplace: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 8)
        self.readers = nn.ModuleList(nn.Linear(8, 4) for _ in range(readers))
        self.relu = nn.ReLU(inplace=inplace)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.second(self.relu(self.first(tokens)))
        return sum(torch.tanh(reader(x)) for reader in self.readers)


@pytest.mark.parametrize("inplace", [False, True])
def test_tokens_that_many_layers_read_cross_once(inplace: bool) -> None:
    x = torch.randn(2, 5, 6)
    models = [Attending(readers, inplace).eval() for readers in (1, 3)]
    one, three = (partition(model, x, 2).traffic(model).total for model in models)
    assert one == three > 0


def test_a_link_that_is_unlike_is_like_all_others_in_what_it_does_not_say() -> None:
    links = {"mbit_per_s": 10, "most_bytes": 1000}
    made = Topology.model_validate({"devices": 3, "links": links, "unlike": [{"devices": [0, 1], "latency_ms": 5}]})
    for topology in (made, Topology.model_validate(made.model_dump())):
        link = topology.link(1, 0)
        assert (link.mbit_per_s, link.most_bytes, link.latency_ms) == (10, 1000, 5)
        assert topology.link(0, 2).latency_ms == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("devices: 0", "at devices"),
        ("devices: 2\nhome: 2", "home 2; expected one of the devices"),
        ("devices: 2\nspeeds: [1.0]", "speeds has 1 entries"),
        ("devices: 2\nmemory_bytes: [1, -1]", "expected bytes, or null"),
        ("devices: 2\nunlike: [{devices: [0, 2]}]", r"a link between \[0, 2\]"),
        ("devices: 2\nwifi: true", "at wifi"),
        ("devices: [", "cannot be read as a topology"),
    ],
)
def test_a_topology_that_makes_no_sense_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "links.yaml"
    path.write_text(text)
    with pytest.raises(StoreError, match=said):
        Topology.read(path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("partition lenet5", "between which devices? Name them"),
        ("partition lenet5 --like x --strategy layers", "drop --owners and --strategy"),
        ("partition lenet5 --like x", "holds no partition"),
        ("partition lenet5 --devices 2 --owners nowhere.yaml", "cannot be read as owners of channels"),
        ("partition lenet5 --devices 0", "0 devices cannot be: at devices"),
        ("partition lenet5 --devices 2 --device meta", "parts of a network run on CPUs"),
        ("partition lenet5 --devices 300", "300 devices cannot be: at devices"),
        ("partition lenet5 --devices 2 --recover magic", "unknown --recover magic"),
        ("partition lenet5 --devices 2 --strategy rows", "unknown strategy 'rows'"),
        ("partition lenet5 --devices 2 --strategy auto", "name some with --data"),
        (
            "partition lenet5 --devices 2 --data digits --budget macs=0.5",
            "budget of macs between devices: expected bytes",
        ),
        ("partition lenet5 --devices 2 --data digits --budget bytes=some", "expected bytes=0.4"),
        ("partition lenet5 --devices 2 --data digits --budget bytes=0.4 --budget bytes=0.5", "bytes is given twice"),
        ("partition lenet5 --devices 2 --batch 0", "give at least 1"),
        ("partition lenet5 --topology nowhere.yaml", "cannot be read as a topology"),
        ("run-split nowhere --data digits", "holds no partition"),
    ],
)
def test_orders_that_make_no_sense_are_refused(arguments: str, said: str) -> None:
    found = secateur(*arguments.split())
    assert found.code == 2
    assert said in found.err and len(found.err.splitlines()) == 1


def test_auto_brings_together_what_depends_on_each_other() -> None:
    model, x = built("resnet20")
    data = [torch.randn(32, 3, 32, 32)]
    plain, matched = (partition(model, x, 4, strategy=strategy, data=data) for strategy in ("filters", "auto"))
    for axis, own in plain.arrangement.owners.axes.items():
        assert np.array_equal(np.sort(own), np.sort(matched.arrangement.owners.axes[axis]))
    known = worth.measure(model, {site.weight for site in plain.crossings.sites}, lambda: batches(data))
    affinities = worth.affinities(plain.arrangement, plain.crossings.sites, known)
    start, found = (
        dependence_across(split.arrangement.owners, affinities, split.topology.costs) for split in (plain, matched)
    )
    assert found < 0.9 * start
    torch.testing.assert_close(matched.run(model, x)[0], model(x), rtol=1e-5, atol=1e-5)


def test_what_others_can_make_up_for_is_worth_least() -> None:
    """Of what the second device gives to the first, one entry is never read, and one is the double of another."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    with torch.no_grad():
        model[2].weight[:, 5] *= 1e-4
        model[0].weight[6], model[0].bias[6] = 2 * model[0].weight[1], 2 * model[0].bias[1]
    data = [torch.randn(256, 4)]
    split = partition(model, data[0][:2], 2)
    crossings = split.crossings
    known = worth.measure(model, {site.weight for site in crossings.sites}, lambda: batches(data))
    lost = worth.lost_by(crossings, known)
    hidden = (crossings.tensor == split.arrangement.steps[2].product.activation) & (crossings.receiver == 0)
    values = dict(zip(crossings.entry[hidden].tolist(), lost[hidden].tolist(), strict=True))
    assert sorted(values) == [4, 5, 6, 7]
    assert max(values[5], values[6]) < 0.02 * min(values[4], values[7])


class Translated(nn.Module):
    """Weights that no linear layer and no ordinary convolution holds."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(torch.relu(self.first(x)))
        tokens = x.flatten(2).transpose(1, 2)
        return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1))


def test_what_attention_reads_has_its_worth_too() -> None:
    """Of what crosses to a transposed convolution, and to an attention, what has tiny weights goes first."""
    torch.manual_seed(0)
    model, data = Translated().eval(), [torch.randn(32, 3, 4, 4)]
    split = partition(model, data[0][:2], 2)
    crossings, tiny = split.crossings, {"up.weight": [0, 5], "attention.in_proj_weight": [1, 6]}
    with torch.no_grad():
        model.up.weight[tiny["up.weight"]] *= 1e-3
        model.attention.in_proj_weight[:, tiny["attention.in_proj_weight"]] *= 1e-3
    state = {name: value.clone() for name, value in model.state_dict().items()}
    known = worth.measure(model, {site.weight for site in crossings.sites}, lambda: batches(data))
    lost = worth.lost_by(crossings, known)
    assert np.isfinite(lost).all()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    for site in crossings.sites:
        if site.weight in tiny:
            mine = crossings.tensor == site.step.product.activation
            small = np.isin(crossings.entry[mine], tiny[site.weight])
            assert small.sum() == 2 and lost[mine][small].max() < 1e-3 * lost[mine][~small].min()


def test_slow_links_are_relieved_first() -> None:
    model, x = built("lenet5")
    slow = Topology.model_validate(
        {"devices": 2, "unlike": [{"devices": [1, 0], "both_ways": False, "mbit_per_s": 0.1}]}
    )
    crossings = partition(model, x, 2).crossings
    alike, unlike = (
        choose(crossings, np.ones(len(crossings)), topology, Limit(0.5 * crossings.total()))
        for topology in (Topology.alike(2), slow)
    )
    assert (
        crossings.bytes[unlike & (crossings.sender == 1)].sum() < crossings.bytes[alike & (crossings.sender == 1)].sum()
    )


def seconds(split: Split, model: nn.Module) -> float:
    return estimate(split.arrangement, split.needs(model), split.topology, samples=1).critical


def test_a_budget_of_time_is_kept_to_and_links_are_relieved_evenly() -> None:
    torch.manual_seed(0)
    layers = [layer for width in (3, 24, 24) for layer in (nn.Conv2d(width, 24, 3, padding=1), nn.ReLU())]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5)).eval()
    links = {"devices": 3, "links": {"mbit_per_s": 100}, "unlike": [{"devices": [0, 2], "mbit_per_s": 40}]}
    split = partition(model, torch.randn(2, 3, 8, 8), Topology.model_validate(links))
    data, before = [torch.randn(32, 3, 8, 8)], seconds(split, model)
    fast = prune_crossings(model, split, {"latency": 0.6}, data, recover="none")
    assert 0.5 * before < seconds(split, fast.model) <= 0.6 * before
    small = prune_crossings(model, split, fast.bytes_after, data, recover="none")
    assert small.bytes_after <= fast.bytes_after and seconds(split, small.model) > 1.1 * seconds(split, fast.model)
    both = prune_crossings(
        model, split, {"link_bytes": 0.2 * fast.bytes_before, "latency_ms": 600 * before}, data, recover="none"
    )
    assert both.bytes_after <= 0.2 * both.bytes_before and seconds(split, both.model) <= 0.6 * before
    target = CrossingTarget(model, split, {"latency": 0.6})
    assert target.share == pytest.approx(0.4)
    masks = target.masks({name: weight.detach() for name, weight in target.weights.items()})
    apply_masks_(model, masks)
    assert 0.5 * before < seconds(split, model) <= 0.6 * before


@given(share=st.floats(0.5, 1), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_a_limit_of_time_holds_and_one_that_nothing_exceeds_takes_nothing(share: float, seed: int) -> None:
    model, x = (
        nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3)),
        torch.ones(1, 6),
    )
    crossings, topology = partition(model.eval(), x, 3).crossings, Topology(devices=3)
    values = np.random.default_rng(seed).random(len(crossings))
    whole = seconds_with(crossings, topology, np.ones(len(crossings), dtype=bool))
    some, every = (choose(crossings, values, topology, Limit(seconds=most * whole)) for most in (share, 1))
    assert seconds_with(crossings, topology, some) <= share * whole and every.all()
    assert values[some].sum() >= 0.5 * values[choose(crossings, values, topology, Limit(crossings.total(some)))].sum()


LINKS: tuple[dict[str, Any], ...] = (
    {"devices": 3, "links": {"mbit_per_s": 100}, "unlike": [{"devices": [1, 2], "latency_ms": 20}]},
    {"devices": 3, "links": {"mbit_per_s": 100, "latency_ms": 2}},
    {
        "devices": 3,
        "speeds": [1, 1, 0.05],
        "links": {"mbit_per_s": 100},
        "unlike": [{"devices": [0, 1], "missing": True}],
    },
)


@pytest.mark.parametrize("links", LINKS)
@pytest.mark.parametrize("share", [0.01, 0.4, 0.9])
def test_what_there_is_time_for_crosses(links: dict[str, Any], share: float) -> None:
    torch.manual_seed(0)
    layers = [layer for width in (3, 8, 8) for layer in (nn.Conv2d(width, 8, 3, padding=1), nn.ReLU())]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()
    topology = Topology.model_validate(links)
    crossings = partition(model, torch.randn(2, 3, 8, 8), topology).crossings
    linked = ~topology.missing[crossings.sender, crossings.receiver]
    least, most = (seconds_with(crossings, topology, some) for some in (np.zeros_like(linked), linked))
    limit = Limit(seconds=least + share * (most - least))
    kept = choose(crossings, crossings.norms(dict(model.named_parameters())), topology, limit)
    assert linked[kept].all() and seconds_with(crossings, topology, kept) <= limit.seconds
    for number in np.flatnonzero(linked & ~kept):
        assert seconds_with(crossings, topology, kept | (np.arange(len(kept)) == number)) > limit.seconds


def test_what_is_worth_nothing_takes_no_room_from_what_is() -> None:
    model = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3)).eval()
    topology = Topology(devices=2)
    crossings = partition(model, torch.randn(1, 4), topology).crossings
    values = np.where(crossings.sender == 0, -1.0, 1.0)
    limit = Limit(crossings.total(values > 0), seconds_with(crossings, topology, values > 0) * 2)
    assert choose(crossings, values, topology, limit)[values > 0].all()


def test_budgets_of_time_that_cannot_be_are_refused() -> None:
    model, x = built("lenet5")
    split = partition(model, x, 2)
    for budget, said in (
        ({"latency_ms": 1e-3}, "ms a sample cannot be met: .* takes .* ms by estimate"),
        ({"latency": 1.5}, "budget latency=1.5 between devices: expected share"),
        ({"latency_ms": -1.0}, "expected milliseconds of a sample"),
        ({"macs": 0.5}, "budget of macs between devices: expected bytes or link_bytes or latency or latency_ms"),
        ({}, "budget of nothing"),
    ):
        with pytest.raises(BudgetError, match=said):
            CrossingTarget(model, split, budget)
    missing = Topology.model_validate({"devices": 2, "links": {"missing": True}})
    with pytest.raises(BudgetError, match="has no link"):
        CrossingTarget(model, partition(model, x, missing), {"latency": 0.5})


def test_nothing_need_cross_where_nothing_must() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU()).eval(), torch.randn(16, 4)
    whole = nn.LSTM(4, 8).eval()
    split = partition(whole, torch.randn(3, 1, 4), 2)
    assert prune_crossings(whole, split, 0.5, [torch.randn(3, 1, 4)]).bytes_after == 0
    split = partition(model, x, 2)
    assert (
        prune_crossings(model, split, int(split.crossings.fixed.sum()), [x]).bytes_after == split.crossings.fixed.sum()
    )


class Logarithm(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.log(x))


def test_parts_are_compared_on_inputs_that_the_network_is_written_for() -> None:
    model, x = Logarithm(4, 3).eval(), torch.rand(8, 4) + 0.1
    assert partition(model, x, 2).verify(model, x).ok


# By hand.


def test_owners_can_be_given_by_axis_by_module_and_by_pattern(tmp_path: Path) -> None:
    path = tmp_path / "owners.yaml"
    path.write_text("conv1: 1\nconv2.out: [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]\n're:fc[12]': 0\n")
    model, x = built("lenet5")
    owners = partition(model, x, 2, owners=read_owners(path)).arrangement.owners.axes
    assert set(owners["conv1.out"]) == {1} and set(owners["fc1.out"]) == set(owners["fc2.out"]) == {0}
    assert owners["conv2.out"].tolist() == [0] * 8 + [1] * 8
    made = secateur("partition", "lenet5", "--devices", "2", "--owners", path, "--out", tmp_path / "apart", "--json")
    assert made.code == 0 and made.record["verification"]["ok"], made.err
    assert list(read_record(tmp_path / "apart").owners["conv1.out"]) == [1] * 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cnv1: 1", "no axis and no module has that name; did you mean: conv1.out"),
        ("conv1: 2", r"expected devices 0 to 1, got \[2\]"),
        ("conv1.out: [0, 1]", "2 of them; expected one for each of 6"),
        ("conv1: north", "does not say who owns what: at conv1"),
        ("conv1: [", "cannot be read as owners of channels"),
        ("fc3.out: 1", "cannot be spread over devices"),
    ],
)
def test_owners_that_make_no_sense_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "owners.yaml"
    path.write_text(text)
    model, x = built("lenet5")
    with pytest.raises(SecateurError, match=said):
        partition(model, x, 2, owners=read_owners(path))
