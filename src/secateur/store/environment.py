"""What a run was made with."""

from __future__ import annotations

import platform

import torch

from secateur.version import __version__


def environment() -> dict[str, str]:
    """The versions that a run record keeps."""
    return {"secateur": __version__, "torch": torch.__version__, "python": platform.python_version()}
