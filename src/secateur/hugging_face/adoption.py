"""A pruned network takes over the configuration that says its sizes, when it is proved to be the right one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from secateur.hugging_face.describing import describe
from secateur.hugging_face.moves import Moves
from secateur.hugging_face.saying import config_for, misfit
from secateur.models.hf_source import quiet
from secateur.spec import Plan
from secateur.structure import named_tensors
from secateur.structure.capture import Inputs
from secateur.structure.freeze import fingerprint
from secateur.surgery import eval_outputs


def adopt_config(small: nn.Module, plan: Plan, moves: Moves, inputs: Inputs) -> str | None:
    """Give the pruned network the configuration that says its sizes; None, or the reason why there is none.

    A configuration is taken over when `from_pretrained` builds from it a network with the same tensors that gives the
    same outputs, bit for bit, on these inputs. Else the network keeps its old one.
    """
    config = config_for(plan.structure, plan.sizes, moves)
    problem = misfit(config, plan.structure, plan.sizes, moves)
    if problem is not None:
        return problem
    twin = _twin(small, config)
    if fingerprint(named_tensors(twin)) != fingerprint(named_tensors(small)):
        return "from_pretrained gives its tensors other types than they have"
    if not _same_outputs(small, twin, inputs):
        return _difference(small, twin)
    take_over_config(small, twin)
    return None


def _twin(small: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    """What `from_pretrained` makes of the configuration and the network's own weights."""
    model_class: Any = type(small)
    own: Any = small
    first = next(small.parameters())
    with quiet(), torch.random.fork_rng(devices=[]):
        twin = model_class.from_pretrained(
            None,
            config=model_class.config_class.from_dict(dict(config)),
            state_dict=small.state_dict(),
            attn_implementation=own.config._attn_implementation,
            dtype=first.dtype,
        )
    return twin.to(first.device)


def _same_outputs(small: nn.Module, twin: nn.Module, inputs: Inputs) -> bool:
    expected, got = eval_outputs(small, inputs), eval_outputs(twin, inputs)
    return len(expected) == len(got) and all(_same(a, b) for a, b in zip(expected, got, strict=True))


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bool(torch.equal(a.nan_to_num(), b.nan_to_num()))


def _difference(small: nn.Module, twin: nn.Module) -> str:
    for path, module in small.named_modules():
        for name, value in vars(module).items():
            other = getattr(twin.get_submodule(path), name, None)
            if type(value) is float and other != value:
                return f"{path}.{name} is {value:g} and cannot change, a network built with these sizes has {other:g}"
    return "a network built from the configuration of these sizes gives other outputs"


def take_over_config(model: nn.Module, twin: nn.Module) -> None:
    """Give the network the configuration of its twin: in place, because modules share configurations, and in every
    module, because parts of some networks hold copies of their own."""
    done: set[int] = set()
    for path, module in model.named_modules():
        mine, other = getattr(module, "config", None), getattr(twin.get_submodule(path), "config", None)
        if mine is not None and other is not None:
            _become(mine, other, done)
    owner: Any = twin
    describe(model, owner.config.to_dict(), exact=True)


def _become(mine: Any, other: Any, done: set[int]) -> None:
    if id(mine) in done:
        return
    done.add(id(mine))
    for name, value in vars(other).items():
        old = vars(mine).get(name)
        if hasattr(old, "to_dict") and type(old) is type(value):
            _become(old, value, done)
        elif not name.startswith("_"):
            vars(mine)[name] = value
