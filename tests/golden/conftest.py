"""`--update-golden` rewrites the files that golden tests compare with."""

from __future__ import annotations

from pathlib import Path

import pytest

UPDATE = "--update-golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(UPDATE, action="store_true", help="rewrite the golden files instead of comparing with them")


@pytest.fixture
def golden(request: pytest.FixtureRequest):
    """Compare a text with the golden file of that name."""

    def compare(name: str, text: str) -> None:
        path = Path(__file__).with_name("structures") / name
        if request.config.getoption(UPDATE, default=False):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            return
        assert path.exists(), f"no golden file {path.name}; make it with pytest tests/golden {UPDATE}"
        assert text.splitlines() == path.read_text().splitlines(), (
            f"review, then accept with pytest tests/golden {UPDATE}"
        )

    return compare
