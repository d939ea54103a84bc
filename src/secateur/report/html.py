"""HTML that what stands in it cannot break: text is escaped, unless it is markup that was made here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape

VOID = ("img", "meta", "wbr")
"""Elements without an end."""
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Characters that HTML forbids, that turn the direction of what follows, or that no file can hold."""
LONGEST = 72


class Html(str):
    """Markup, to be put into a page as it is."""

    __slots__ = ()


def text(value: object) -> Html:
    """Anything as a text; markup stays what it is."""
    if isinstance(value, Html):
        return value
    return Html(escape(UNPRINTABLE.sub("\ufffd", str(value))))


def joined(parts: Iterable[object]) -> Html:
    """One after the other."""
    return Html("".join(text(part) for part in parts))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """`element("th", name, scope="row")`; attributes that Python reserves have an underscore at their end (`class_`),
    and `aria_label` is `aria-label`. Those that are None or False are left out, True is one without a value."""
    opened = "".join(_attribute(name, value) for name, value in attributes.items())
    end = "" if tag in VOID else f"</{tag}>"
    return Html(f"<{tag}{opened}>{joined(children)}{end}")


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    shown = name.rstrip("_").replace("_", "-")
    return f" {shown}" if value is True else f' {shown}="{text(str(value))}"'


def clipped(value: object, most: int = LONGEST) -> str:
    """A long text without its middle."""
    whole = " ".join(str(value).split())
    half = most // 2
    return whole if len(whole) <= most else f"{whole[:half]}…{whole[-half + 1 :]}"


def written(value: object) -> str:
    """A value of a record as a text: lists and objects without brackets."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={inner}" for key, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def name(value: object, most: int = LONGEST) -> Html:
    """A name or a value from a record, whatever is in it: not too long, in a direction of its own, and in lines
    that end behind its dots and slashes."""
    parts = re.split(r"(?<=[./_])(?=.)", clipped(written(value), most))
    return element("bdi", Html(element("wbr").join(text(part) for part in parts)))
