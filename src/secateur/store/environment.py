"""What a run was made with."""

from __future__ import annotations

import platform

import torch

import secateur


def environment() -> dict[str, str]:
    """The versions that a run record keeps."""
    return {"secateur": secateur.__version__, "torch": torch.__version__, "python": platform.python_version()}
