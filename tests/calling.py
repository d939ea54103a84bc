"""The command line, called in this process."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.cli.app import run


@dataclass(frozen=True)
class Call:
    """What one call of the command left behind."""

    code: int
    out: str
    err: str

    @property
    def record(self) -> dict[str, Any]:
        """stdout as the one JSON object that it must be."""
        return json.loads(self.out)


def secateur(*arguments: object) -> Call:
    """Run `secateur ARGUMENTS`."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    return Call(code, out.getvalue(), err.getvalue())


def listing(folder: Path) -> dict[str, bytes]:
    """Every file under the folder with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
