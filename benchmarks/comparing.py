"""`secateur compare lenet5 --data mnist`, as anybody would call it: every cell with three seeds, and how long it takes.

    SECATEUR_DATA=... python benchmarks/comparing.py [--seconds 600]

Seconds are those that may be taken, on two cores with nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from page import write_between_markers
from runs import write_record

RESULT = Path(__file__).parent / "results" / "comparing.json"
PAGE = Path(__file__).parent.parent / "docs" / "comparing.md"
COMMAND = ("compare", "lenet5", "--data", "mnist")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        command = [sys.executable, "-m", "secateur", *COMMAND, "--out", f"{folder}/run"]
        said = json.loads(subprocess.run([*command, "--json"], check=True, capture_output=True).stdout)
        seconds = time.monotonic() - start
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    write_record(RESULT, {"seconds": seconds, "most_seconds": options.seconds, "rows": said["rows"]})
    write_between_markers(PAGE, "compare", shown(text, seconds))
    print(f"{text}\n{seconds:.0f} s, {'within' if seconds <= options.seconds else 'OVER'} {options.seconds:.0f} s")


def shown(text: str, seconds: float) -> str:
    """What the command prints, as Markdown."""
    told = [line for line in text.splitlines() if not line.startswith("saved to")]
    return "\n".join(["```", *told, "```", f"Made in {seconds:.0f} seconds on two cores by `benchmarks/comparing.py`."])


if __name__ == "__main__":
    main()
