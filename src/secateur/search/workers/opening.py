"""`--workers`: from a text to workers."""

from __future__ import annotations

import torch

from secateur.search.workers.processes import Processes
from secateur.search.workers.ray_cluster import RayCluster
from secateur.search.workers.tasks import InProcess, Workers
from secateur.spec import SecateurError

EXPECTED = "expected cpu:N for N processes, cpu:NxM for N teams of M, GPU numbers such as 0,0,1, ray, or ray:N"


def open_workers(asked: str | None, *, threads: int = 1, device: str = "cpu") -> Workers:
    """Workers as asked for: `cpu:4`, `cpu:2x2` (two, each of two processes that share its batches), `0,0,1,1,2`
    (several on one GPU), `ray` (a running cluster, or one started here; `ray:N` with N candidates on each GPU), or None
    for this process, on `device`.

    threads: of the CPU, of each process. Results depend on it, in their last digits, and on the processes of a worker,
    which normalise their parts of a batch apart; not on how many workers there are. Raises SecateurError for anything
    else.
    """
    if asked is None:
        return InProcess(device)
    kind, _, count = asked.partition(":")
    if kind == "ray":
        if count and not (count.isdecimal() and int(count)):
            raise SecateurError(f"workers {asked!r}: {EXPECTED}")
        return RayCluster(threads=threads, on_each_gpu=int(count or 1))
    number, _, team = count.partition("x")
    if kind == "cpu" and all(part.isdecimal() and int(part) for part in (number, team or "1")):
        return Processes(["cpu"] * int(number), threads, int(team or 1))
    numbers = asked.split(",")
    if not all(number.strip().isdecimal() for number in numbers):
        raise SecateurError(f"workers {asked!r}: {EXPECTED}")
    there = torch.cuda.device_count()
    if max(map(int, numbers)) >= there:
        raise SecateurError(f"workers {asked!r}: PyTorch sees {there} GPUs here, numbered from 0; {EXPECTED}")
    return Processes([f"cuda:{int(number)}" for number in numbers], threads)
