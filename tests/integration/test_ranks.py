"""Data-parallel ranks: each sees its part of the data, all end with the scores of the whole."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import distributed, multiprocessing

import secateur as sc
from secateur.models import build_model, example_inputs

CRITERIA = ("taylor", "wifv", "entropy-class")


def _data() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(12, 1, 28, 28, generator=generator), torch.randint(0, 10, (12,), generator=generator)
    return [(x[start : start + 4], y[start : start + 4]) for start in (0, 4, 8)]


def _scores(batches: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, np.ndarray]:
    model = build_model("lenet300").eval()
    structure = sc.trace(model, example_inputs("lenet300"))
    return {
        f"{criterion}/{axis}": values
        for criterion in CRITERIA
        for axis, values in sc.score(model, structure, criterion=criterion, data=batches).values.items()
    }


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = _scores(_data()[rank::2])
    np.savez(f"{folder}/{rank}.npz", **{key.replace("/", "|"): value for key, value in found.items()})
    distributed.destroy_process_group()
    os._exit(0)  # threads of gloo that still let go of tensors abort an interpreter that comes to its end


def test_ranks_end_with_the_scores_of_the_whole(tmp_path: Path) -> None:
    multiprocessing.spawn(_rank, (str(tmp_path),), nprocs=2)

    whole = _scores(_data())
    for rank in (0, 1):
        with np.load(tmp_path / f"{rank}.npz") as found:
            for key, values in whole.items():
                np.testing.assert_allclose(found[key.replace("/", "|")], values, rtol=1e-5, atol=1e-9)
