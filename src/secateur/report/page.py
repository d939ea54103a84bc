"""The page as a whole: head, verdict, runs side by side, and each run."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from secateur.report.charts import definitions
from secateur.report.html import Html, clipped, element, joined, name
from secateur.report.numbers import METRICS, NOTHING
from secateur.report.parts import listed, paragraph, table
from secateur.report.run import Finding, Run
from secateur.version import __version__

DOCTYPE = "<!doctype html>"
GENERATOR = "secateur report"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""A page that can load nothing and run nothing, whatever stands in it."""
COMPARED = (
    "accuracy", "perplexity", "macs", "param_count", "params_left", "size_bytes", "speedup", "sparsity", "link_bytes",
)  # fmt: skip
"""Metrics of the table of all runs."""
PROOF = {True: "✓ verified", False: "✗ not verified", None: NOTHING}


def page(runs: Sequence[Run]) -> str:
    """The whole document."""
    title = runs[0].title() if len(runs) == 1 else f"{len(runs)} runs"
    body = [_alone(runs[0])] if len(runs) == 1 else _together(title, runs)
    foot = paragraph(f"Made by Secateur {__version__}. This page holds all that it shows, and loads nothing.")
    document = element(
        "html",
        _head(title),
        element("body", definitions(), *body, element("footer", foot)),
        lang="en",
    )
    return f"{DOCTYPE}\n{document}\n"


def _head(title: str) -> Html:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=GENERATOR),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{clipped(title)} – Secateur"),
        element("style", Html(files("secateur.report").joinpath("page.css").read_text(encoding="utf-8"))),
    )


def _alone(run: Run) -> Html:
    head = element("header", _eyebrow(run), element("h1", run.title()), *_verdict(run))
    return joined([head, element("main", *_sections(run, "h2"))])


def _together(title: str, runs: Sequence[Run]) -> list[Html]:
    head = element("header", paragraph("Secateur report", kind="eyebrow"), element("h1", title))
    articles = [_article(place, run) for place, run in enumerate(runs, 1)]
    side_by_side = element("section", element("h2", "Side by side"), _side_by_side(runs))
    return [head, element("main", side_by_side, *articles)]


def _article(place: int, run: Run) -> Html:
    title = element("h2", run.title(), id=f"run-{place}")
    return element(
        "article", _eyebrow(run), title, *_verdict(run), *_sections(run, "h3"), aria_labelledby=f"run-{place}"
    )


def _eyebrow(run: Run) -> Html:
    return paragraph(name(run.path), kind="eyebrow")


def _verdict(run: Run) -> list[Html]:
    return [paragraph(run.done(), kind="done"), _findings(run.findings())]


def _findings(found: Sequence[Finding]) -> Html:
    if not found:
        return Html("")
    return listed((joined([element("strong", one.figure), " ", one.what]) for one in found), "findings")


def _sections(run: Run, heading: str) -> list[Html]:
    return [element("section", element(heading, section.title), section.body) for section in run.sections()]


def _side_by_side(runs: Sequence[Run]) -> Html:
    keys = [key for key in COMPARED if any(key in run.metrics() for run in runs)]
    proofs = any(run.verified() is not None for run in runs)
    head = ["Run", "What it is", *(METRICS[key].label for key in keys), *(["Proof"] if proofs else [])]
    rows: list[list[object]] = []
    for place, run in enumerate(runs, 1):
        found = run.metrics()
        numbers = [METRICS[key].shown(found[key]) if key in found else NOTHING for key in keys]
        link = element("a", name(run.path, 40), href=f"#run-{place}")
        rows.append([link, run.title(), *numbers, *([PROOF[run.verified()]] if proofs else [])])
    return table("All runs", head, rows, kind="numbers runs")
