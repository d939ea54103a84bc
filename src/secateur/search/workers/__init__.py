"""Who does the work of a search: this process, others on this machine, or a Ray cluster."""

from secateur.search.workers.opening import open_workers
from secateur.search.workers.processes import Processes
from secateur.search.workers.tasks import Failure, InProcess, Task, Workers

__all__ = ["Failure", "InProcess", "Processes", "Task", "Workers", "open_workers"]
