"""What a verb hands back: one record for programs, one text for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """The result of a verb."""

    record: Mapping[str, Any]
    """What `--json` prints."""
    text: str
    verified: bool = True
    """False where the verification was made and did not hold."""


def as_json(record: Any) -> str:
    """The record as one line of JSON; numbers that JSON cannot say (infinity, NaN) become null."""
    return json.dumps(_finite(record), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
