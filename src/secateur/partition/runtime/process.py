"""The process of one device, which is told what to do by an `Order` in JSON as its only argument."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from secateur.partition.device import END, Device, Sending, find_sendings
from secateur.partition.folder import read_record, read_shard
from secateur.partition.runtime.links import Links, NoAnswer
from secateur.spec import SecateurError
from secateur.spec.files import write_whole

INPUTS, OUTPUTS = "inputs.safetensors", "outputs.safetensors"
MEETING = "meeting"
"""A file by which the devices find each other."""
FAILED, IN_VAIN = 1, 2
"""Exit codes: of a device that failed, and of one that another did not answer."""
LOOK = 0.5
"""Seconds between looks at who started this process."""


@dataclass(frozen=True)
class Order:
    """What a device is told when it is started."""

    folder: str
    work: str
    """A folder that all devices of the run see: inputs, outputs and what was measured."""
    device: int
    meeting: float
    """Seconds to wait until all are there, at least as many as later on."""
    timeout: float
    """Seconds to wait for another device later on."""
    slowed: bool
    batches: int


def measured_name(device: int) -> str:
    return f"measured-{device}.json"


def alive_name(device: int) -> str:
    """A file that is touched whenever the device gets on."""
    return f"alive-{device}"


def main() -> None:
    """Run as the arguments say; an error is one line on stderr. The interpreter is not brought to its end: threads of
    gloo that still let go of tensors would abort it now and then."""
    order = Order(**json.loads(sys.argv[1]))
    torch.set_num_threads(1)
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()
    try:
        with torch.inference_mode():
            _run(order)
    except Exception as error:  # whatever it is, it is told
        said = next(iter(str(error).splitlines()), "")
        sys.stderr.write(said if isinstance(error, SecateurError) else f"{type(error).__name__}: {said}")
        sys.stderr.flush()
        os._exit(IN_VAIN if isinstance(error, NoAnswer) else FAILED)
    os._exit(0)


def _watch(parent: int) -> None:
    """A run whose caller is gone is over."""
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(FAILED)


def _run(order: Order) -> None:
    record = read_record(order.folder)
    arrangement, needs = record.arrangement(), record.find_needs()
    device = Device(arrangement, needs, read_shard(order.folder, record, order.device), order.device)
    sendings = find_sendings(arrangement, needs)
    alive = Path(order.work) / alive_name(order.device)
    _meet(order, record.topology.devices)
    links = Links(order.device, record.topology, order.timeout, slowed=order.slowed)
    made: list[list[Tensor]] = []
    start = time.perf_counter()
    for batch in range(order.batches):
        device.begin(_inputs(order, record.inputs, batch) if order.device == record.topology.home else [])
        for step in arrangement.steps:
            alive.touch()
            _cross(device, links, sendings.get(step.number, []))
            device.run(step)
        _cross(device, links, sendings.get(END, []))
        links.settle()
        if order.device == record.topology.home:
            made.append(device.outputs())
    seconds = time.perf_counter() - start
    work = Path(order.work)
    if order.device == record.topology.home:
        whole = {f"output-{number}": torch.cat(parts) for number, parts in enumerate(zip(*made, strict=True))}
        write_whole(work / OUTPUTS, save(whole))
    measured = {"sent": dict(links.sent), "received": dict(links.received), "seconds": seconds, "waited": links.waited}
    write_whole(work / measured_name(order.device), json.dumps(measured))
    dist.destroy_process_group()


def _meet(order: Order, devices: int) -> None:
    """Until all are there."""
    patience = timedelta(seconds=order.meeting)
    store = dist.FileStore(str(Path(order.work) / MEETING), devices)  # pyright: ignore[reportPrivateImportUsage]
    store.set_timeout(patience)
    try:
        dist.init_process_group("gloo", store=store, rank=order.device, world_size=devices, timeout=patience)
        dist.barrier()
    except RuntimeError as error:
        reason = next(iter(str(error).splitlines()), "")
        raise NoAnswer(
            f"the {devices} devices did not meet within {order.meeting:g} s ({reason}); where they are many, or "
            "slow to start, give a longer timeout"
        ) from error


def _inputs(order: Order, numbers: tuple[int, ...], batch: int) -> list[Tensor]:
    with safe_open(Path(order.work) / INPUTS, "pt") as file:
        return [file.get_tensor(f"{batch}.{place}") for place in range(len(numbers))]


def _cross(device: Device, links: Links, sendings: list[Sending]) -> None:
    """This device's share of what crosses now."""
    for sending in sendings:
        if sending.sender == device.device:
            links.send(device.give(sending), sending.receiver, sending.number)
    coming = [sending for sending in sendings if sending.receiver == device.device]
    rooms = [device.room(sending) for sending in coming]
    links.receive([(room, sending.sender, sending.number) for room, sending in zip(rooms, coming, strict=True)])
    for room, sending in zip(rooms, coming, strict=True):
        device.take(sending, room)
