"""Secateur makes neural networks smaller and proves what it did.

The public door: everything else is private. Names are imported when first used, so that `import secateur` stays light.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from secateur.version import __version__ as __version__

if TYPE_CHECKING:
    from secateur.allocate import allocate
    from secateur.cost import CostModel, measure_latency
    from secateur.loading import load
    from secateur.pipeline import PruneConfig, PruneResult, prune
    from secateur.score import CRITERIA, score
    from secateur.spec import Budget, Plan, Scores, SecateurError, Structure, Verification
    from secateur.structure import trace
    from secateur.structure.schema import base_schema
    from secateur.surgery import masked, shrink, shrink_, verify
    from secateur.surgery.prunable import make_prunable

_HOME = {
    "CRITERIA": "score",
    "Budget": "spec",
    "CostModel": "cost",
    "Plan": "spec",
    "PruneConfig": "pipeline",
    "PruneResult": "pipeline",
    "Scores": "spec",
    "SecateurError": "spec",
    "Structure": "spec",
    "Verification": "spec",
    "allocate": "allocate",
    "base_schema": "structure.schema",
    "load": "loading",
    "make_prunable": "surgery.prunable",
    "masked": "surgery",
    "measure_latency": "cost",
    "prune": "pipeline",
    "score": "score",
    "shrink": "surgery",
    "shrink_": "surgery",
    "trace": "structure",
    "verify": "surgery",
}

__all__ = [
    "CRITERIA",
    "Budget",
    "CostModel",
    "Plan",
    "PruneConfig",
    "PruneResult",
    "Scores",
    "SecateurError",
    "Structure",
    "Verification",
    "allocate",
    "base_schema",
    "load",
    "make_prunable",
    "masked",
    "measure_latency",
    "prune",
    "score",
    "shrink",
    "shrink_",
    "trace",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'secateur' has no attribute {name!r}")
    return getattr(import_module(f"secateur.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Door(ModuleType):
    """`secateur.score` is the function, although a subpackage of that name exists: importing it must not hide the
    function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in _HOME):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Door
