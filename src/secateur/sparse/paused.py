"""A forward that stops at every call of some layers, so that what it reads can be looked at and the layer be changed
before it goes on.

Each forward runs in a thread of its own, one at a time, so several batches stand at the same layer together: every
layer is changed once, knowing all batches, and of the activations only those are alive that a forward at this point
needs anyway. No module has to be known as a block, and the network is run once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from secateur.sparse.second_order.layers import given
from secateur.structure.capture import Inputs, call_model


class _Stopped(Exception):
    """Ends a forward that nobody waits for any more."""


class PausedForward:
    """One forward without gradients; `name` and `given` say which layer it is about to call, and with what."""

    def __init__(self, model: nn.Module, inputs: Inputs, around: AbstractContextManager[Any] | None = None) -> None:
        """around: entered in the forward's own thread."""
        self.name: str | None = None
        """None before the first call of a watched layer, and when the forward has come to its end."""
        self.at_start = True
        self.given: Tensor | None = None
        self._error: BaseException | None = None
        self._stopping = False
        self._may_run, self._has_paused = threading.Semaphore(0), threading.Semaphore(0)
        self._around = nullcontext() if around is None else around
        self._thread = threading.Thread(target=self._run, args=(model, inputs), daemon=True)
        self._thread.start()

    def proceed(self) -> None:
        """Run up to the next call of a watched layer, or to the end. Raises what the forward raises."""
        self.at_start = False
        self._may_run.release()
        self._has_paused.acquire()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End it where it stands."""
        self._stopping = True
        self._may_run.release()
        self._thread.join()

    def pause(self, name: str, given: Tensor) -> None:
        """Called in the forward's own thread: wait until it may go on."""
        self.name, self.given = name, given
        self._has_paused.release()
        self._wait()

    def _wait(self) -> None:
        self._may_run.acquire()
        if self._stopping:
            raise _Stopped

    def _run(self, model: nn.Module, inputs: Inputs) -> None:
        _OWN.forward = self
        try:
            self._wait()
            with torch.no_grad(), self._around:
                call_model(model, inputs)
        except _Stopped:
            return
        except BaseException as error:
            self._error = error
        self.name = self.given = None
        self._has_paused.release()


def in_order(forwards: Sequence[PausedForward]) -> Iterator[str]:
    """The next layer at which forwards stand, each layer once, until all have come to their end; they run on when the
    next one is asked for."""
    done: set[str] = set()
    while True:
        for forward in forwards:
            while forward.at_start or forward.name in done:
                forward.proceed()
        name = next((forward.name for forward in forwards if forward.name is not None), None)
        if name is None:
            return
        yield name
        done.add(name)


_OWN = threading.local()


class Pausing:
    """While entered, paused forwards of the model stop at each call of these modules."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self.modules = modules
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> None:
        self._handles = [
            module.register_forward_pre_hook(_pausing(name), with_kwargs=True) for name, module in self.modules.items()
        ]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        for handle in self._handles:
            handle.remove()


def _pausing(name: str) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        _OWN.forward.pause(name, given(args, kwargs))

    return hook
