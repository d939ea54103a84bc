"""Every error that Secateur raises on purpose.

A message says what failed, where (module path, axis, file), what was got and expected, and what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class SecateurError(Exception):
    """Base of all errors raised on purpose; the command line prints its message alone and exits with code 2, or
    with 1 where the system is at fault (`OSError`)."""


class TraceError(SecateurError, RuntimeError):
    """The model's own forward failed while it was being captured."""


class SelectorError(SecateurError, ValueError):
    """A name, pattern or type selects nothing; the message names the nearest."""


class SchemaError(SecateurError, ValueError):
    """A schema is malformed, or contradicts the network; the message names key, member and reason."""


class BudgetError(SecateurError, ValueError):
    """A budget is malformed, or cannot be met; the message says what is the nearest possible."""


class ScoreError(SecateurError, ValueError):
    """Scores cannot be computed: NaN weights, no data, a criterion that does not apply."""


class PlanError(SecateurError, ValueError):
    """A plan contradicts the structure it is applied to."""


class StoreError(SecateurError, ValueError):
    """A saved folder is missing, truncated, tampered with, or belongs to another model."""


class ExportError(SecateurError, ValueError):
    """A network cannot be said in the format that was asked for; nothing was written."""


class WriteError(SecateurError, OSError):
    """A file cannot be written: the disk is full, or the folder is not ours. What was there before stands."""


class ModelError(SecateurError, ValueError):
    """A model cannot be built, or weights do not fit it."""


class DataError(SecateurError, ValueError):
    """A data set cannot be read."""


class RegistryError(SecateurError, ValueError):
    """A name is registered twice or is unknown."""


class MissingExtraError(SecateurError, ImportError):
    """An optional dependency is missing; the message names the extra that brings it."""


def changes(held: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, str]:
    """By name, in order, what is asked for otherwise than what is held: `rate 0.1 -> 0.2`."""
    return {
        name: f"{name} {held.get(name)} -> {asked.get(name)}"
        for name in sorted({*held, *asked})
        if held.get(name) != asked.get(name)
    }


def nearest(name: str, known: list[str], count: int = 3) -> str:
    """The known names closest to `name`, ready to be put at the end of a message."""
    import difflib

    matches = difflib.get_close_matches(name, known, n=count, cutoff=0.3) or sorted(known)[:count]
    return ", ".join(matches) if matches else "(none)"
