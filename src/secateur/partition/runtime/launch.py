"""Start one process for each device, watch over them, and gather what they made and measured."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import secateur
from secateur.partition.document import SplitRecord
from secateur.partition.folder import read_record
from secateur.partition.runtime.process import IN_VAIN, INPUTS, OUTPUTS, Order, alive_name, main, measured_name
from secateur.partition.steps import Arrangement
from secateur.partition.timing import transfer_seconds
from secateur.spec import DataError, SecateurError
from secateur.structure.program import Program

START = 60.0
"""Seconds at least that processes have to start and to find each other."""
SLACK = 5.0
"""Seconds beyond that, so that devices which wait for one that hangs can say so first."""
GRACE = 1.0
"""Seconds in which a device that failed ends, when others have seen that it does not answer."""
LONGEST = 86400.0
"""Seconds that links may need for a batch."""


@dataclass(frozen=True)
class SplitRun:
    """What came of a run."""

    outputs: list[Tensor]
    """The network's outputs, of all samples."""
    bytes: np.ndarray
    """`(sender, receiver)`, of the whole run."""
    batches: int
    samples: int
    seconds: float
    """From the first input to the last output, of the slowest device."""
    waited: list[float]
    """Seconds that each device waited for others."""


def run_split(folder: str | Path, inputs: Sequence[Tensor], *, slowed: bool = False, timeout: float = 60.0) -> SplitRun:
    """Run a partition on these inputs, one process of this machine for each device.

    inputs: the tensors among the network's inputs, samples first; as many at a time go through as the network was taken
    apart with, and a last batch is filled up with zeros. Outputs have samples first, too.
    slowed: whether links take as long as the topology says. timeout: seconds that a device waits for another at most,
    beyond what links take that are slow by intent.

    Raises DataError for inputs that do not fit, StoreError for a folder that does not, SecateurError where a device
    fails or does not answer; then all others are stopped.
    """
    if not 0 < timeout < math.inf:
        raise SecateurError(f"timeout {timeout}: expected seconds, above 0")
    record = read_record(folder)
    arrangement = record.arrangement()
    patience = timeout + (_slowness(arrangement, record) if slowed else 0.0)
    batches = _batches(arrangement.program, inputs)
    with tempfile.TemporaryDirectory(prefix="secateur-split-") as work:
        save_file(
            {
                f"{number}.{place}": t.contiguous()
                for number, batch in enumerate(batches)
                for place, t in enumerate(batch)
            },
            Path(work) / INPUTS,
        )
        orders = [
            Order(str(Path(folder).resolve()), work, device, max(START, patience), patience, slowed, len(batches))
            for device in range(record.topology.devices)
        ]
        _supervise(orders, Path(work))
        return _gathered(record, Path(work), len(batches), len(inputs[0]))


def _slowness(arrangement: Arrangement, record: SplitRecord) -> float:
    """Seconds that all links together take for a batch, which is more than any device waits because of them."""
    found = transfer_seconds(arrangement, record.find_needs(), record.topology)
    if found > LONGEST:
        raise SecateurError(f"the links of this topology would take {found:.3g} s for a batch; give them a higher rate")
    return found


def _batches(program: Program, inputs: Sequence[Tensor]) -> list[list[Tensor]]:
    shapes = [program.shapes[number] for number in program.inputs]
    size = next((shape[0] for shape in shapes if shape), 0)
    for kind, numbers in (("input", program.inputs), ("output", program.outputs)):
        for place, number in enumerate(numbers):
            shape = program.shapes[number]
            if shape[:1] != (size,):
                raise DataError(
                    f"{kind} {place} of this partition has shape {shape}, and {size} samples go through at a time; "
                    "what has no samples in its first dimension cannot be run in batches"
                )
    wanted = [(tuple(program.shapes[number][1:]), _called(program.dtypes[number])) for number in program.inputs]
    given = [(tuple(tensor.shape[1:]), _called(tensor.dtype)) for tensor in inputs]
    counts = {len(tensor) for tensor in inputs if tensor.dim()}
    if given != wanted or len(counts) != 1 or counts == {0}:
        raise DataError(f"inputs of shape and type {given}, {sorted(counts)} samples; expected samples of {wanted}")
    (count,) = counts
    made: list[list[Tensor]] = []
    for start in range(0, count, size):
        parts = [given[start : start + size] for given in inputs]
        made.append([torch.cat([part, part.new_zeros(size - len(part), *part.shape[1:])]) for part in parts])
    return made


def _called(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _supervise(orders: Sequence[Order], work: Path) -> None:
    """Run the processes to their end. The first that fails ends them all."""
    said = [work / f"said-{order.device}.txt" for order in orders]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for order, log in zip(orders, said, strict=True):
            processes.append(_started(order, log))
        failed = _first_failure(processes, [work / alive_name(order.device) for order in orders], orders[0].meeting)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    if failed is None:
        return
    lines = said[failed].read_text(errors="replace").strip().splitlines()
    code = processes[failed].returncode
    reason = f"it was killed by signal {-code}" if code < 0 else lines[-1] if lines else f"exit code {code}"
    raise SecateurError(f"device {failed} failed, and the run was stopped: {reason}")


def _started(order: Order, log: Path) -> subprocess.Popen[bytes]:
    run = f"from {main.__module__} import main; main()"
    command = [sys.executable, "-P", "-c", run, json.dumps(asdict(order))]  # -P: nothing of the current folder runs
    paths = [str(Path(secateur.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}  # where this process has Secateur from
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback is not None:
        environment["GLOO_SOCKET_IFNAME"] = loopback  # nothing outside this machine is to reach the devices
    with log.open("wb") as said:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=environment)


def _first_failure(processes: Sequence[subprocess.Popen[bytes]], alive: Sequence[Path], patience: float) -> int | None:
    """The device whose process ended badly; None where all ended well. One that failed comes before those that wait for
    it in vain. Raises SecateurError for one that does not get on, which none waits for."""
    started, noticed = time.time(), math.inf
    while True:
        codes = [process.poll() for process in processes]
        failed = [device for device, code in enumerate(codes) if code not in (None, 0, IN_VAIN)]
        in_vain = [device for device, code in enumerate(codes) if code == IN_VAIN]
        noticed = min(noticed, time.time()) if in_vain else noticed
        if failed or time.time() - noticed > GRACE:
            return (failed or in_vain)[0]
        if all(code == 0 for code in codes):
            return None
        for device, (code, path) in enumerate(zip(codes, alive, strict=True)):
            seen = path.stat().st_mtime if path.exists() else started
            if code is None and time.time() - seen > patience + SLACK:
                raise SecateurError(
                    f"device {device} has not got on for {patience:g} s, and the run was stopped; where one step "
                    "may take as long, give a longer timeout"
                )
        time.sleep(0.02)


def _gathered(record: SplitRecord, work: Path, batches: int, samples: int) -> SplitRun:
    devices = record.topology.devices
    sent, received = np.zeros((2, devices, devices), dtype=np.int64)
    measured = [json.loads((work / measured_name(device)).read_text()) for device in range(devices)]
    for device, found in enumerate(measured):
        for receiver, count in found["sent"].items():
            sent[device, int(receiver)] = count
        for sender, count in found["received"].items():
            received[int(sender), device] = count
    if not np.array_equal(sent, received):
        raise SecateurError(f"devices sent {sent.tolist()} bytes to each other and received {received.tolist()}")
    made = load_file(work / OUTPUTS)
    return SplitRun(
        [made[f"output-{number}"][:samples] for number in range(len(made))],
        sent,
        batches,
        samples,
        max(found["seconds"] for found in measured),
        [found["waited"] for found in measured],
    )
