"""Import of the optional libraries that bring models."""

from __future__ import annotations

import importlib
from types import ModuleType

from secateur.spec import MissingExtraError


def import_extra(name: str) -> ModuleType:
    """The optional library; raises MissingExtraError that says what to install, or what does not fit together."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"cannot import {name} ({error}); it comes with an extra: pip install 'secateur[models]'"
        ) from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        raise MissingExtraError(_mismatch(name)) from error


def _mismatch(name: str) -> str:
    import torch

    return (
        f"cannot import {name}: the installed torchvision was built for another torch than the installed "
        f"torch {torch.__version__} (its compiled operator torchvision::nms does not load). Install a torchvision build "
        "of the same release and kind (CPU or the same CUDA version) as torch, or reinstall both together"
    )
