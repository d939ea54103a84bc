"""Criteria against independent computations of a few lines, and the laws that they keep."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import secateur as sc
from secateur.score import Statistics
from secateur.score.measuring import measure


class Small(nn.Module):
    """conv1 - BatchNorm - ReLU - conv2 - mean - linear: axes conv1.out (6) and conv2.out (5)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 5, 3, padding=1)
        self.linear = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv1(x)))
        return self.linear(torch.relu(self.conv2(x)).mean((2, 3)))


@pytest.fixture
def model() -> Small:
    made = Small().eval()
    with torch.no_grad():
        for buffer in (made.norm.running_mean, made.norm.running_var, made.norm.weight, made.norm.bias):
            buffer.uniform_(0.5, 1.5)
    return made


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(24, 2, 6, 6), torch.randint(0, 4, (24,))


def _scores(model, criterion, data=None, **options):
    structure = sc.trace(model, torch.randn(1, 2, 6, 6, dtype=next(model.parameters()).dtype))
    return sc.score(model, structure, criterion=criterion, data=data, **options).values


def _close(got, expected):
    torch.testing.assert_close(torch.as_tensor(got), expected.double(), rtol=1e-4, atol=1e-7)


def _by_mean(values):
    return values / values.mean()


def _activations(model, x):
    """What conv2 and linear read."""
    first = torch.relu(model.norm(model.conv1(x)))
    return first, torch.relu(model.conv2(first)).mean((2, 3))


def test_norms(model):
    w1, w2 = model.conv1.weight.detach(), model.conv2.weight.detach()
    fold = w1 * (model.norm.weight / (model.norm.running_var + 1e-5).sqrt())[:, None, None, None]
    rows, columns = w1.square().sum((1, 2, 3)).sqrt(), w2.square().sum((0, 2, 3)).sqrt()

    _close(_scores(model, "l2")["conv1.out"], (_by_mean(rows) + _by_mean(columns)) / 2)
    _close(_scores(model, "l2-fan-in")["conv1.out"], (rows / 18**0.5 + columns / 45**0.5) / 2)
    folded = fold.detach().square().sum((1, 2, 3)).sqrt()
    _close(_scores(model, "l2-folded")["conv1.out"], (_by_mean(folded) + _by_mean(columns)) / 2)
    absolute = (_by_mean(fold.detach().abs().sum((1, 2, 3))) + _by_mean(w2.abs().sum((0, 2, 3)))) / 2
    _close(_scores(model, "l1-folded")["conv1.out"], absolute)
    _close(_scores(model, "l1-fan-in")["conv1.out"], (w1.abs().mean((1, 2, 3)) + w2.abs().mean((0, 2, 3))) / 2)


def test_lamp(model):
    squares = torch.as_tensor(_scores(model, "l2")["conv1.out"]) ** 2
    expected = torch.stack([value / squares[squares >= value].sum() for value in squares])
    _close(_scores(model, "lamp")["conv1.out"], expected)


def test_redundancy(model):
    rows = model.conv1.weight.detach().flatten(1)
    distances = torch.stack([(row - rows).norm(dim=1).sum() for row in rows])
    _close(_scores(model, "fpgm")["conv1.out"], _by_mean(distances))
    alive, order = list(range(6)), {}
    while len(alive) > 1:
        pairs = [(float(F.cosine_similarity(rows[a], rows[b], 0)), a, b) for a in alive for b in alive if a < b]
        _, a, b = max(pairs)
        gone = a if rows[a].norm() <= rows[b].norm() else b
        order[gone] = (len(order) + 1) / 6
        alive.remove(gone)
    expected = torch.tensor([order.get(index, 1.0) for index in range(6)])
    _close(_scores(model, "cosine")["conv1.out"], _by_mean(expected))


def test_of_two_copies_one_goes_first(model):
    with torch.no_grad():
        model.conv1.weight[4] = 2 * model.conv1.weight[1]
    found = _scores(model, "cosine")["conv1.out"]
    assert found.argmin() == 1


def test_weight_entropy(model):
    rows = model.conv1.weight.detach().flatten(1)
    edges = (rows.min().item(), rows.max().item())
    shares = [torch.histc(row, 100, *edges) / row.numel() for row in rows]
    expected = torch.stack([-(share[share > 0] * share[share > 0].log()).sum() for share in shares])
    _close(_scores(model, "entropy-weight")["conv1.out"], expected)


def test_spectral_entropy_follows_the_paper(model):
    from secateur.score import layer_entropies

    values = torch.linalg.svdvals(model.conv1.weight.detach().mean((2, 3)))
    share = ((values - values.min()) / (values.max() - values.min())).softmax(0)
    structure = sc.trace(model, torch.randn(1, 2, 6, 6))
    expected = float(-(share * share.log()).sum()) / 6
    assert layer_entropies(model, structure)["conv1.out"] == pytest.approx(expected, rel=1e-5)


def test_activations(model, batch):
    x, _ = batch
    with torch.no_grad():
        first, second = _activations(model, x)
    flat = first.transpose(0, 1).flatten(1).double()
    data = [batch]

    _close(_scores(model, "apoz", data)["conv1.out"], (flat != 0).double().mean(1))
    _close(_scores(model, "mean-activation", data)["conv1.out"], _by_mean(flat.mean(1).abs()))
    variance = flat.var(1, correction=0) * model.conv2.weight.detach().double().square().sum((0, 2, 3))
    _close(_scores(model, "wifv", data)["conv1.out"], _by_mean(variance))
    pooled = second.double().T
    edges = (pooled.min().item(), pooled.max().item())
    shares = [torch.histc(row, 100, *edges) / row.numel() for row in pooled]
    expected = torch.stack([-(share[share > 0] * share[share > 0].log()).sum() for share in shares])
    _close(_scores(model, "entropy-activation", data)["conv2.out"], expected)


def test_class_information_is_highest_for_a_channel_that_tells_the_class(model):
    x, labels = torch.randn(64, 2, 6, 6) * 0.1, torch.arange(64) % 2
    with torch.no_grad():
        model.conv1.weight.zero_()
        model.conv1.weight[3, 0, 1, 1] = 1.0
    x[:, 0] += labels[:, None, None] * 5.0
    found = _scores(model, "entropy-class", [(x, labels)])["conv1.out"]
    assert found.argmax() == 3
    assert found[3] == pytest.approx(0.6931, abs=1e-3)


def _gradients(model, x, y):
    return torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))


def test_gradients(model, batch):
    x, y = batch
    names = [name for name, _ in model.named_parameters()]
    columns, fisher, mean = [], None, None
    for index in range(len(x)):
        own = dict(zip(names, _gradients(model, x[index : index + 1], y[index : index + 1]), strict=True))
        columns.append((own["conv2.weight"] * model.conv2.weight).sum((0, 2, 3)).detach())
        squares = {name: own[name].double() ** 2 for name in names}
        fisher = squares if fisher is None else {name: fisher[name] + squares[name] for name in names}
        mean = own if mean is None else {name: mean[name] + own[name] for name in names}
    gates = torch.stack(columns).double()
    _close(_scores(model, "taylor", [batch])["conv1.out"], gates.square().mean(0))
    _close(_scores(model, "fisher-masks", [batch])["conv1.out"], _one_by_one(gates))

    w1, w2 = model.conv1.weight.detach().double(), model.conv2.weight.detach().double()
    obd1 = 0.5 * (w1**2 * fisher["conv1.weight"] / 24).sum((1, 2, 3))
    obd2 = 0.5 * (w2**2 * fisher["conv2.weight"] / 24).sum((0, 2, 3))
    _close(_scores(model, "fisher", [batch])["conv1.out"], (obd1 + obd2) / 2)
    snip1 = (w1 * mean["conv1.weight"] / 24).abs().sum((1, 2, 3))
    snip2 = (w2 * mean["conv2.weight"] / 24).abs().sum((0, 2, 3))
    _close(_scores(model, "snip", [batch])["conv1.out"], (snip1 + snip2) / 2)
    whole = dict(zip(names, _gradients(model, x, y), strict=True))
    nni1 = (w1 * whole["conv1.weight"]).square().sum((1, 2, 3))
    nni2 = (w2 * whole["conv2.weight"]).square().sum((0, 2, 3))
    _close(_scores(model, "taylor-nni", [batch])["conv1.out"], (nni1 + nni2) / 2)


def _one_by_one(gates):
    """What the mean of half the squared sum of the gates gains at each step, when the cheapest goes each time."""
    gone, costs, most = torch.zeros(gates.shape[1], dtype=torch.double), torch.zeros(gates.shape[1]), 0.0
    for _ in costs:
        lost = {
            i: ((gates @ (gone + unit)).square().mean() - (gates @ gone).square().mean()) / 2
            for i, unit in enumerate(torch.eye(len(gone), dtype=torch.double))
            if not gone[i]
        }
        going = min(lost, key=lost.get)
        most = max(most, float(lost[going]))
        gone[going], costs[going] = 1, most
    return costs


def test_taylor_is_the_change_of_the_loss(model, batch):
    """First order: squared difference quotient of the loss when an input of conv2 is scaled down a little."""
    x, y = batch
    step, changes = 1e-3, []
    model = model.double()
    with torch.no_grad():
        before = F.cross_entropy(model(x.double()), y, reduction="none")
        weight = model.conv2.weight.clone()
        for channel in range(6):
            model.conv2.weight.copy_(weight)
            model.conv2.weight[:, channel] *= 1 - step
            changes.append(((F.cross_entropy(model(x.double()), y, reduction="none") - before) / step).square().mean())
        model.conv2.weight.copy_(weight)
    found = _scores(model, "taylor", [(x.double(), y)])["conv1.out"]
    torch.testing.assert_close(torch.as_tensor(found), torch.stack(changes), rtol=1e-2, atol=1e-6)


PER_SAMPLE = [
    "taylor",
    "fisher",
    "fisher-masks",
    "snip",
    "apoz",
    "mean-activation",
    "wifv",
    "entropy-activation",
    "entropy-class",
]


@pytest.mark.parametrize("criterion", PER_SAMPLE)
def test_batches_of_one_and_of_many_score_the_same(model, batch, criterion):
    x, y = batch
    singles = [(x[index : index + 1], y[index : index + 1]) for index in range(len(x))]
    one, many = _scores(model, criterion, singles), _scores(model, criterion, [batch])
    for axis in many:
        torch.testing.assert_close(torch.as_tensor(one[axis]), torch.as_tensor(many[axis]), rtol=1e-4, atol=1e-8)


def test_statistics_add_up_and_survive_a_file(model, batch, tmp_path):
    x, y = batch
    structure = sc.trace(model, torch.randn(1, 2, 6, 6))
    axes = tuple(axis for axis in structure.axes if axis.chosen)
    parts = [measure(model, structure, axes, [(x[a:b], y[a:b])], frozenset({"taylor"})) for a, b in ((0, 9), (9, 24))]
    parts[0].merge(parts[1])
    parts[0].save(tmp_path / "taylor.safetensors")

    loaded = Statistics.load(tmp_path / "taylor.safetensors")

    again = sc.score(model, structure, criterion="taylor", statistics=loaded).values
    for axis, values in _scores(model, "taylor", [batch]).items():
        torch.testing.assert_close(torch.as_tensor(again[axis]), torch.as_tensor(values), rtol=1e-5, atol=1e-9)
    (tmp_path / "bad").write_bytes(b"no statistics")
    with pytest.raises(sc.SecateurError, match="cannot be read as statistics"):
        Statistics.load(tmp_path / "bad")


def test_folded_scores_do_not_see_a_scale_that_the_norm_takes_away(model):
    before = _scores(model, "l2-folded")
    with torch.no_grad():
        model.conv1.weight[2] *= 7
        model.norm.running_mean[2] *= 7
        model.norm.running_var[2] *= 49
    after = _scores(model, "l2-folded")
    for axis in before:
        torch.testing.assert_close(torch.as_tensor(after[axis]), torch.as_tensor(before[axis]), rtol=1e-3, atol=0)


@pytest.mark.parametrize("criterion", ["taylor", "wifv", "entropy-class"])
def test_data_is_asked_for(model, criterion):
    with pytest.raises(sc.SecateurError, match="looks at data"):
        _scores(model, criterion)
    with pytest.raises(sc.SecateurError, match="holds no batch"):
        _scores(model, criterion, [])


def test_a_criterion_of_ones_own(model):
    def smallest_element(question):
        return question.reduce(lambda weight: weight.abs() ** 0.5)

    assert set(_scores(model, smallest_element)) == {"conv1.out", "conv2.out"}
