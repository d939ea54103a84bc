"""The user's model, and the random state of the process, come back as they were."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from secateur.pipeline import prune
from secateur.structure import named_tensors
from secateur.testing import random_network


def _attributes(model):
    kept = {}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, int | float | str | tuple | list | torch.Size) and not isinstance(value, torch.Tensor):
                items = [(type(item), item) for item in value] if isinstance(value, tuple | list) else None
                kept[path, name] = (type(value), items if items is not None else value)
            elif name.endswith("_hooks") or name == "_parameters":
                kept[path, name] = len(value)
    return kept


def _state(model):
    tensors = {}
    for found in named_tensors(model):
        value = found.tensor
        tensors[found.name] = (id(value), value.data_ptr(), value._version, value.detach().clone(), value.requires_grad)
    return tensors, {path: module.training for path, module in model.named_modules()}, _attributes(model)


def _assert_same(before, after):
    assert before[1] == after[1], "train and eval modes"
    assert before[2] == after[2], [key for key in before[2] if before[2][key] != after[2].get(key)]
    assert before[0].keys() == after[0].keys()
    for name, (identity, pointer, version, value, grad) in before[0].items():
        other = after[0][name]
        assert (identity, pointer, version, grad) == (*other[:3], other[4]), name
        assert torch.equal(value, other[3]), name


@pytest.mark.parametrize("seed", range(0, 300, 6))
def test_the_users_model_is_untouched(seed):
    network = random_network(seed)
    model, rng = network.model, random.Random(seed)
    for module in model.modules():
        module.training = rng.random() < 0.5  # any mixture of modes
    for parameter in model.parameters():
        parameter.requires_grad_(rng.random() < 0.7)
    model.register_forward_hook(lambda *_: None)
    inputs = tuple(x.clone() for x in network.inputs)
    before = _state(model)
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    states = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())
    fastpath = torch.backends.mha.get_fastpath_enabled()
    result = prune(model, network.inputs, budget={"channels": 0.6})
    assert result.verification.ok, network.name
    assert random.getstate() == states[0] and np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert torch.backends.mha.get_fastpath_enabled() == fastpath and torch.is_grad_enabled()
    _assert_same(before, _state(model))
    assert all(torch.equal(a, b) for a, b in zip(inputs, network.inputs, strict=True))
    _assert_plain(model, result.model)
    _assert_own_memory(model, result.model)
    modes = {path: module.training for path, module in model.named_modules()}
    assert {path: module.training for path, module in result.model.named_modules()} == modes
    grads = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert {name: parameter.requires_grad for name, parameter in result.model.named_parameters()} == grads


def _assert_plain(model, small):
    """No number of ours or of numpy's is left in the result: sizes are plain ints, as they were."""
    for path, module in model.named_modules():
        twin = vars(small.get_submodule(path))
        for name, value in vars(module).items():
            assert type(twin[name]) is type(value), f"{path}.{name} is {type(twin[name])}"
    for path, module in small.named_modules():
        for name, value in vars(module).items():
            for item in value if isinstance(value, tuple | list) else (value,):
                if isinstance(item, int):
                    assert type(item) in (int, bool), f"{path}.{name} is {type(item)}"


def _assert_own_memory(model, small):
    pointers = {tensor.tensor.data_ptr() for tensor in named_tensors(model) if tensor.tensor.numel()}
    for found in named_tensors(small):
        assert found.tensor.data_ptr() not in pointers or not found.tensor.numel(), found.name


def test_a_failing_forward_leaves_no_trace():
    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.width = nn.Linear(4, 4), 4

        def forward(self, x):
            return self.layer(x).view(self.width, 3, 7)

    model = Fails()
    before, fastpath = _state(model), torch.backends.mha.get_fastpath_enabled()

    with pytest.raises(Exception, match="forward of Fails"):
        prune(model, torch.randn(2, 4).fill_(1), budget={"channels": 0.5})
    _assert_same(before, _state(model))
    assert torch.backends.mha.get_fastpath_enabled() == fastpath
