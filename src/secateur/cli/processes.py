"""Several processes of one command, as torchrun starts them: who speaks, and how they find each other."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


def rank() -> int:
    """Number of this process, from 0; the first alone writes results."""
    return int(os.environ.get("RANK", "0")) if _together() > 1 else 0


def quieten() -> None:
    """Keep torch from telling, in every process, that it looks for parameters that a step may leave unused.

    To be called before torch is imported.
    """
    if _together() > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


@contextmanager
def joined(device: str) -> Iterator[str]:
    """The processes meet, and part in the end; the device of this one: with `cuda`, each takes a GPU of its own."""
    if _together() == 1:
        yield device
        return
    import torch
    from torch import distributed

    on_gpu = device.startswith("cuda")
    own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" else device
    if on_gpu:
        torch.cuda.set_device(own)
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield own
    finally:
        distributed.destroy_process_group()


def leave(code: int) -> NoReturn:
    """End this process with an exit code.

    One of several ends without the interpreter's own end, which threads of gloo that still let go of tensors abort now
    and then, with all work done.
    """
    if _together() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _together() -> int:
    """Processes that were started together."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "MASTER_ADDR" in os.environ else 1
