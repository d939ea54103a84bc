"""Saving and loading: folders that hold weights, plans and proof, without pickle."""

from secateur.store.card import is_safe
from secateur.store.environment import environment
from secateur.store.folder import Manifest, demand_free, load_into, read_manifest, read_run, read_source, save_folder
from secateur.store.history import history_of, inherit, remember_cut, remember_history

__all__ = [
    "Manifest",
    "demand_free",
    "environment",
    "history_of",
    "inherit",
    "is_safe",
    "load_into",
    "read_manifest",
    "read_run",
    "read_source",
    "remember_cut",
    "remember_history",
    "save_folder",
]
