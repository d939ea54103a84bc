"""Workers of a Ray cluster: many machines, and parts of GPUs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from secateur.search.workers.tasks import ATTEMPTS, Failure, Task, carried_out
from secateur.spec import MissingExtraError, SecateurError


class RayCluster:
    """The running cluster that RAY_ADDRESS names, or one that is started on this machine."""

    def __init__(self, threads: int, on_each_gpu: int = 1) -> None:
        """threads: of the CPU, of each candidate. on_each_gpu: candidates that share a GPU, where the cluster has some.

        Raises MissingExtraError without Ray, SecateurError where no machine has so many CPUs.
        """
        try:
            import ray
            from ray.exceptions import RayError
        except ImportError as error:
            raise MissingExtraError("workers on Ray need the extra `search`: pip install 'secateur[search]'") from error
        self._ray = ray
        self._lost = RayError
        self._shared: dict[str, Any] = {}
        """By name, the object in Ray's store, which is sent once to each machine."""
        self._started = not ray.is_initialized()
        if self._started:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        most = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
        if most < threads:
            self.close()
            raise SecateurError(
                f"a candidate is to have {threads} threads, but no machine of the Ray cluster has more than {most:g} "
                "CPUs; ask for fewer threads"
            )
        gpus = 1 / on_each_gpu if ray.cluster_resources().get("GPU") else 0
        self._remote = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)(_carried_out)
        self._threads = threads

    def share(self, name: str, value: Any) -> None:
        self._shared[name] = self._ray.put(value)

    def results(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        names, values = list(self._shared), list(self._shared.values())
        failures = dict.fromkeys(range(len(tasks)), 0)

        def ask(number: int) -> Any:
            return self._remote.remote(tasks[number], self._threads, names, *values)

        under_way = {ask(number): number for number in range(len(tasks))}
        while under_way:
            done, _ = self._ray.wait(list(under_way))
            number = under_way.pop(done[0])
            result = self._result(done[0])
            if isinstance(result, Failure) and not result.own:
                failures[number] += 1
                if failures[number] < ATTEMPTS:
                    under_way[ask(number)] = number
                    continue
            yield number, result

    def close(self) -> None:
        self._shared.clear()
        if self._started:
            self._ray.shutdown()

    def _result(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._lost as error:
            return Failure(f"it was lost {ATTEMPTS} times: {_first_line(error)}", own=False)


def _carried_out(task: Task, threads: int, names: Sequence[str], *values: Any) -> Any:
    """On a worker; Ray has shown it its GPUs, and put in the values."""
    torch.set_num_threads(threads)
    shared: Mapping[str, Any] = dict(zip(names, values, strict=True))
    return carried_out(task, shared, "cuda" if torch.cuda.is_available() else "cpu")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
