"""`--update-golden` rewrites the files that golden tests compare with."""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path

import pytest

UPDATE = "--update-golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(UPDATE, action="store_true", help="rewrite the golden files instead of comparing with them")


@pytest.fixture
def golden(request: pytest.FixtureRequest):
    """Compare a text with the golden file of that name. Where a library made the network, its version stands in the
    first line: another one is no failure by itself, but it is named beside what differs."""

    def compare(name: str, text: str, made_with: str = "") -> None:
        path = Path(__file__).with_name("structures") / name
        head = f"made with {made_with}\n" if made_with else ""
        if request.config.getoption(UPDATE, default=False):
            path.parent.mkdir(exist_ok=True)
            path.write_text(head + text)
            return
        assert path.exists(), f"no golden file {path.name}; make it with pytest tests/golden {UPDATE}"
        expected = path.read_text()
        known, _, expected = expected.partition("\n") if made_with else ("", "", expected)
        changes = "\n".join(unified_diff(expected.splitlines(), text.splitlines(), "golden", "now", lineterm="", n=1))
        said = f" ({known}, this is {made_with})" if known != head.strip() else ""
        assert not changes, f"{name}{said}: review, then accept with pytest tests/golden {UPDATE}\n{changes}"

    return compare
