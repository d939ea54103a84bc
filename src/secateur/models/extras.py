"""Import of the optional libraries that bring models."""

from __future__ import annotations

import importlib
from typing import Any

from secateur.spec import MissingExtraError


def import_extra(name: str, attribute: str | None = None) -> Any:
    """The optional library, or an attribute of it (None where there is none).

    Raises MissingExtraError that says what to install, or which installed libraries do not fit together.
    """
    try:
        module = importlib.import_module(name)
        return module if attribute is None else getattr(module, attribute, None)
    except (ImportError, RuntimeError) as error:
        if "torchvision::nms" in f"{error} {error.__cause__}":
            raise MissingExtraError(_mismatch(name)) from error
        if isinstance(error, RuntimeError):
            raise
        raise MissingExtraError(
            f"cannot import {name} ({error}); it comes with an extra: pip install 'secateur[models]'"
        ) from error


def _mismatch(name: str) -> str:
    import torch

    return (
        f"cannot import {name}: the installed torchvision was built for another torch than the installed "
        f"torch {torch.__version__} (its compiled operator torchvision::nms does not load). Install a torchvision "
        "of the same release and kind (CPU or the same CUDA version) as torch, or reinstall both together"
    )
