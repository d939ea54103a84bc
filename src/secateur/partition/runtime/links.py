"""What one device sends and receives, counted, and slowed down where a link is to be slower than this machine."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch import Tensor

from secateur.partition.topology import Topology
from secateur.spec import SecateurError


class Links:
    """Of one device to all others, over an initialised process group."""

    def __init__(self, device: int, topology: Topology, timeout: float, *, slowed: bool) -> None:
        """slowed: whether sending takes as long as the topology says, else as long as it does.
        timeout: seconds to wait for another device at most."""
        self.device, self.topology = device, topology
        self.sent: Counter[int] = Counter()
        """Bytes, by receiver."""
        self.received: Counter[int] = Counter()
        """Bytes, by sender."""
        self.waited = 0.0
        """Seconds."""
        self._timeout = timedelta(seconds=timeout)
        self._slow = {to: _SlowLink(topology, device, to) for to in range(topology.devices)} if slowed else {}
        self._under_way: list[tuple[Any, Tensor]] = []

    def send(self, entries: Tensor, receiver: int, tag: int) -> None:
        """Returns at once."""
        if self.topology.link(self.device, receiver).missing:
            raise SecateurError(f"device {self.device} has no link to {receiver}, yet something was to be sent there")
        self.sent[receiver] += entries.numel() * entries.element_size()
        if self._slow:
            self._slow[receiver].send(entries, tag)
        else:
            self._under_way.append((dist.isend(entries, receiver, tag=tag), entries))

    def receive(self, wanted: Sequence[tuple[Tensor, int, int]]) -> None:
        """Fill these tensors, of (sender, tag) each. Raises SecateurError where one does not come."""
        start = time.perf_counter()
        works = [(dist.irecv(entries, sender, tag=tag), sender) for entries, sender, tag in wanted]
        for work, sender in works:
            try:
                assert work is not None
                work.wait(self._timeout)
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                raise SecateurError(f"device {self.device} waits for device {sender} in vain: {reason}") from error
        for entries, sender, _ in wanted:
            self.received[sender] += entries.numel() * entries.element_size()
        self.waited += time.perf_counter() - start

    def settle(self) -> None:
        """Wait until all that was sent has been received."""
        for link in self._slow.values():
            link.settle()
        for work, _ in self._under_way:
            work.wait(self._timeout)
        self._under_way.clear()


class _SlowLink:
    """Sends what it is given one after the other, each after the time that the link would need for it."""

    def __init__(self, topology: Topology, sender: int, receiver: int) -> None:
        link = topology.link(sender, receiver)
        self._latency, self._rate = link.latency_ms / 1e3, link.mbit_per_s * 1e6 / 8
        self._receiver = receiver
        self._free = 0.0
        """When the last byte of what came before is on its way."""
        self._waiting: queue.Queue[tuple[Tensor, int, float]] = queue.Queue()
        self._failure: RuntimeError | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def send(self, entries: Tensor, tag: int) -> None:
        now = time.perf_counter()
        self._free = max(self._free, now) + entries.numel() * entries.element_size() / self._rate
        self._waiting.put((entries, tag, self._free + self._latency))

    def settle(self) -> None:
        self._waiting.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        while True:
            entries, tag, due = self._waiting.get()
            time.sleep(max(0.0, due - time.perf_counter()))
            try:
                dist.send(entries, self._receiver, tag=tag)
            except RuntimeError as error:
                self._failure = error
            self._waiting.task_done()
