"""Networks for benchmarks, from files with a function `entries()`, whose items have `name` and
`build() -> (model, inputs)`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur.structure.capture import call_model, normalise_inputs

OWN = Path(__file__).parent.parent / "tests" / "networks.py"


def entries_of(zoos: Sequence[str], only: Sequence[str], *, heavy: bool) -> Iterator[Any]:
    """The entries of these files, or of `zoo.py` in these folders; those marked as heavy when asked for."""
    for zoo in zoos:
        path = Path(zoo) / "zoo.py" if Path(zoo).is_dir() else Path(zoo)
        for entry in _module(path).entries():
            if (heavy or not getattr(entry, "heavy", False)) and any(fnmatch(entry.name, pattern) for pattern in only):
                yield entry


def _module(path: Path) -> Any:
    sys.path.insert(0, str(path.parent.resolve()))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def awake(entry: Any) -> tuple[nn.Module, Any]:
    """The network in eval mode and its inputs, so that differences inside it reach its outputs: no tensor of zeros, and
    norms with the statistics of what they see."""
    torch.manual_seed(0)
    model, inputs = entry.build()
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point() and float(parameter.abs().max()) < 1e-4:
                parameter.uniform_(-0.5, 0.5)
        hooks = [module.register_forward_pre_hook(_see) for module in model.modules() if _has_statistics(module)]
        call_model(model, normalise_inputs(inputs))
    for hook in hooks:
        hook.remove()
    return model, inputs


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(getattr(module, "running_var", None), torch.Tensor)


def _see(norm: nn.Module, arguments: tuple[Any, ...]) -> None:
    values_CN = arguments[0].transpose(0, 1).flatten(1)
    if values_CN.shape[1] > 1:
        norm.running_mean.copy_(values_CN.mean(1))
        norm.running_var.copy_(values_CN.var(1).clamp_min(1e-3))
