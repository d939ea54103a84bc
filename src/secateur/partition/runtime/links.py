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


class NoAnswer(SecateurError):
    """Another device does not answer; what it suffers from, it says itself if it can."""


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
        self._under_way: list[tuple[Any, Tensor, int]] = []

    def send(self, entries: Tensor, receiver: int, tag: int) -> None:
        """Returns at once."""
        if self.topology.link(self.device, receiver).missing:
            raise SecateurError(f"device {self.device} has no link to {receiver}, yet something was to be sent there")
        self.sent[receiver] += entries.numel() * entries.element_size()
        if self._slow:
            self._slow[receiver].send(entries, tag)
        else:
            try:
                self._under_way.append((dist.isend(entries, receiver, tag=tag), entries, receiver))
            except RuntimeError as error:
                raise self._in_vain("sends to", receiver, error) from error

    def receive(self, wanted: Sequence[tuple[Tensor, int, int]]) -> None:
        """Fill these tensors, of (sender, tag) each. Raises NoAnswer where one does not come."""
        start = time.perf_counter()
        works = [(dist.irecv(entries, sender, tag=tag), sender) for entries, sender, tag in wanted]
        for work, sender in works:
            try:
                assert work is not None
                work.wait(self._timeout)
            except RuntimeError as error:
                raise self._in_vain("waits for", sender, error) from error
        for entries, sender, _ in wanted:
            self.received[sender] += entries.numel() * entries.element_size()
        self.waited += time.perf_counter() - start

    def settle(self) -> None:
        """Wait until all that was sent has been received. Raises NoAnswer where something is not."""
        for receiver, link in self._slow.items():
            failure = link.settle()
            if failure is not None:
                raise self._in_vain("sends to", receiver, failure) from failure
        for work, _, receiver in self._under_way:
            try:
                work.wait(self._timeout)
            except RuntimeError as error:
                raise self._in_vain("sends to", receiver, error) from error
        self._under_way.clear()

    def _in_vain(self, what: str, other: int, error: Exception) -> NoAnswer:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        return NoAnswer(f"device {self.device} {what} device {other} in vain: {reason}")


class _SlowLink:
    """Sends what it is given one after the other, each after the time that the link would need for it."""

    def __init__(self, topology: Topology, sender: int, receiver: int) -> None:
        link = topology.link(sender, receiver)
        self._latency, self._rate = link.latency_ms / 1e3, link.mbit_per_s * 1e6 / 8
        self._receiver = receiver
        self._free = 0.0
        """When the last byte of what came before is on its way."""
        self._waiting: queue.Queue[tuple[Tensor, int, float]] = queue.Queue()
        self._failure: Exception | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def send(self, entries: Tensor, tag: int) -> None:
        now = time.perf_counter()
        self._free = max(self._free, now) + entries.numel() * entries.element_size() / self._rate
        self._waiting.put((entries, tag, self._free + self._latency))

    def settle(self) -> Exception | None:
        """Wait for all that it was given; what went wrong, if something did."""
        self._waiting.join()
        return self._failure

    def _run(self) -> None:
        while True:
            entries, tag, due = self._waiting.get()
            try:
                time.sleep(max(0.0, due - time.perf_counter()))
                dist.send(entries, self._receiver, tag=tag)
            except Exception as error:  # told where it is waited for
                self._failure = error
            finally:
                self._waiting.task_done()
