"""How long a network takes on its devices: compute of each, transfers of each link, and the path that decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from secateur.partition.device import END, Sending, at_hand, find_sendings
from secateur.partition.steps import Arrangement, Step, part_shape
from secateur.partition.topology import Topology
from secateur.partition.traffic import Needs, entry_bytes, own_rows

SPEED = 1.0
"""Billions of multiply-accumulates a second, where a topology does not say."""
RATES = (1.0, 10.0, 100.0, 1000.0, 10000.0)
"""Mbit/s: from a radio link to a wire in a rack."""


@dataclass(frozen=True)
class Times:
    """Seconds for so many samples at a time."""

    compute: np.ndarray
    """Of each device."""
    transfer: np.ndarray
    """Of each link, `(sender, receiver)`."""
    critical: float
    """From the inputs to the outputs, when every device goes on as soon as it has what it needs."""
    alone: float
    """Of the home device, when it does everything itself that the devices do together: what was pruned for the sake of
    links is no work here either."""


def estimate(
    arrangement: Arrangement,
    needs: Needs,
    topology: Topology,
    *,
    samples: int | None = None,
    mbit_per_s: float | None = None,
) -> Times:
    """From multiply-accumulates, bytes, speeds and latencies alone; convolutions and matrix products are counted.

    samples: that go through at a time, as many as the network was taken apart with when not given. mbit_per_s: of every
    link, in place of what the topology says.
    """
    devices = topology.devices
    part = 1.0 if samples is None else samples / arrangement.samples
    speeds = np.asarray(topology.speeds or [SPEED] * devices) * 1e9 / part
    clock, compute, busy = np.zeros(devices), np.zeros(devices), np.zeros((devices, devices))
    transfer, latencies = np.zeros((devices, devices)), topology.latencies
    of_a_byte = topology.seconds_of_a_byte if mbit_per_s is None else np.full_like(transfer, 8e-6 / mbit_per_s)
    sendings, total = find_sendings(arrangement, needs), 0.0
    for step in [*arrangement.steps, None]:
        there = clock.copy()
        for sending in sendings.get(END if step is None else step.number, ()):
            link = (sending.sender, sending.receiver)
            taken = part * _bytes(arrangement, sending) * of_a_byte[link]
            start = max(there[sending.sender], busy[link])
            busy[link] = start + taken
            transfer[link] += taken
            arrival = busy[link] + latencies[link]
            clock[sending.receiver] = max(clock[sending.receiver], arrival)
        if step is not None:
            work = np.zeros(devices)
            for device in step.runners:
                work[device] = _macs(arrangement, needs, step, device)
            clock += work / speeds
            compute += work / speeds
            total += min(work.sum(), _whole_macs(arrangement, step))
    return Times(compute, transfer, float(clock[topology.home]), total / speeds[topology.home])


def transfer_seconds(arrangement: Arrangement, needs: Needs, topology: Topology) -> float:
    """What all that crosses takes, one after the other, for as many samples as the network was taken apart with."""
    of_a_byte, latencies = topology.seconds_of_a_byte, topology.latencies
    return sum(
        float(_bytes(arrangement, sending) * of_a_byte[link] + latencies[link])
        for found in find_sendings(arrangement, needs).values()
        for sending in found
        for link in [(sending.sender, sending.receiver)]
    )


def by_rate(arrangement: Arrangement, needs: Needs, topology: Topology) -> Mapping[float, float]:
    """Seconds from the inputs to the outputs of one sample, by the rate of all links, Mbit/s."""
    return {rate: estimate(arrangement, needs, topology, samples=1, mbit_per_s=rate).critical for rate in RATES}


def _bytes(arrangement: Arrangement, sending: Sending) -> int:
    return len(sending.positions) * entry_bytes(arrangement, sending.tensor)


def _macs(arrangement: Arrangement, needs: Needs, step: Step, device: int) -> float:
    """Of an operator on this device; on whole tensors it is the whole operator."""
    op, product, whole = arrangement.program.ops[step.number], step.product, _whole_macs(arrangement, step)
    if product is None:
        made = op.outputs[0]
        return whole * (
            _size(arrangement, made, device) / prod(arrangement.program.shapes[made]) if step.compact else 1
        )
    shape = arrangement.program.shapes[product.weight]
    rows = len(own_rows(arrangement, step, device)) / shape[1 - product.columns]
    spread = arrangement.places[product.activation].dim is not None
    there = len(at_hand(arrangement, needs, product.activation, device)) / shape[product.columns] if spread else 1.0
    return whole * rows * there


def _size(arrangement: Arrangement, number: int, device: int) -> int:
    return prod(part_shape(arrangement, number, device))


def _whole_macs(arrangement: Arrangement, step: Step) -> float:
    """Of the operator on one device."""
    op, shapes = arrangement.program.ops[step.number], arrangement.program.shapes
    name = op.target._schema.name
    if name == "aten::convolution":
        weight = shapes[op.args[1].id]
        made = shapes[op.args[0].id] if op.args[6] else shapes[op.outputs[0]]
        return prod(made) * prod(weight[1:])
    if name in ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"):
        return prod(shapes[op.outputs[0]]) * shapes[op.args[-2].id][-1]
    return 0.0
