"""Import of optional libraries."""

from __future__ import annotations

import importlib
from typing import Any

from secateur.spec.errors import MissingExtraError


def import_extra(name: str, extra: str) -> Any:
    """The optional module; raises MissingExtraError that says what to install."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"cannot import {name} ({error}); it comes with an extra: pip install 'secateur[{extra}]'"
        ) from error
