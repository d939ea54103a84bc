"""Tables of results on pages that people read, between markers."""

from __future__ import annotations

from pathlib import Path


def write_between_markers(page: Path, name: str, text: str) -> None:
    """Put the text between `<!-- NAME:begin -->` and `<!-- NAME:end -->` of the page."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    head, found, rest = page.read_text().partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{page} has no markers {begin} ... {end}")
    temporary = page.with_name(f".{page.name}.part")
    temporary.write_text(f"{head}{begin}\n{text}\n{end}{tail}")
    temporary.replace(page)
