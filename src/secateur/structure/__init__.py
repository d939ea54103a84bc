"""The structure engine: capture of the model's forward, operator rules, axes."""

from secateur.structure.clone import clone, clone_with, named_tensors
from secateur.structure.trace import Traced, trace, trace_program

__all__ = ["Traced", "clone", "clone_with", "named_tensors", "trace", "trace_program"]
