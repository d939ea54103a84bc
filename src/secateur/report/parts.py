"""What pages are put together from: tables, figures with their numbers, lists of facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from secateur.report.html import Html, element

MOST_ROWS = 200
"""Of a table; more are counted and left out."""


@dataclass(frozen=True)
class Section:
    """A part of a run's report."""

    title: str
    body: Html


def table(caption: str, head: Sequence[object], rows: Iterable[Sequence[object]], *, kind: str = "numbers") -> Html:
    """A table whose first column names the rows; wide ones scroll by themselves."""
    listed = list(rows)
    shown = [_row(row) for row in listed[:MOST_ROWS]]
    if len(listed) > MOST_ROWS:
        more = f"the first {MOST_ROWS} of {len(listed):,} rows"
        shown.append(element("tr", element("td", more, colspan=len(head), class_="more")))
    made = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *(element("th", title, scope="col") for title in head))),
        element("tbody", *shown),
        class_=kind,
    )
    return scrolling(made, caption)


def _row(cells: Sequence[object]) -> Html:
    head, *rest = cells
    return element("tr", element("th", head, scope="row"), *(element("td", cell) for cell in rest))


def scrolling(wide: Html, label: str) -> Html:
    """Something that may be wider than the page; reached with the keyboard, too."""
    return element("div", wide, class_="scroll", role="group", tabindex=0, aria_label=label)


def figure(picture: Html, message: object, numbers: Html | None = None, *, summary: str = "Numbers") -> Html:
    """A picture, what it says, and the numbers that it shows."""
    details = "" if numbers is None else element("details", element("summary", summary), numbers)
    return element("figure", picture, element("figcaption", message), details)


def paragraph(*words: object, kind: str | None = None) -> Html:
    return element("p", *words, class_=kind)


def facts(pairs: Mapping[str, object]) -> Html:
    """Names and what they are."""
    return element(
        "dl",
        *(element("div", element("dt", title), element("dd", value)) for title, value in pairs.items()),
        class_="facts",
    )


def listed(items: Iterable[object], kind: str | None = None) -> Html:
    return element("ul", *(element("li", item) for item in items), class_=kind)


def quoted(content: str, most: int = 20_000) -> Html:
    """A text as it is, in lines."""
    return element("pre", element("code", content if len(content) <= most else f"{content[:most]}…"))


def hidden(content: str, summary: str) -> Html:
    """A long text that opens on request."""
    return element("details", element("summary", summary), quoted(content))
