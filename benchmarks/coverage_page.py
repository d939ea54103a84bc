"""The rows of `coverage.py` as a page that people read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from page import write_between_markers
from soundness import ORIGINAL

QUIET = 1e-6
"""Where the cut moves the outputs by less, no difference can be seen in them."""
HALF = 0.5
LEGEND = """*Prunable*: share of the parameters that touch an axis which can be cut. *Difference*: the largest absolute
one from the reference, over the largest absolute output; quiet where the cut moves the outputs so little that they
could not show one. *s*: CPU seconds of one thread for structure, scores, plan and surgery (the median of three runs
where these are quick), *proof s* those of the verification. *TP*: Torch-Pruning on the same request, by the same
criterion, in the best of its ways to treat heads, with heads and output layers named; `full` where at least half of the
parameters or MACs are gone, `partial` above 5 %, `none` below, `crash` where it raises or outputs change their shapes,
`timeout` after 120 seconds; whether it computes what it should, nothing says."""
HANDLED = ("full", "partial")


def write_page(page: Path, record: dict[str, Any]) -> None:
    """Put the summary and the tables between the page's markers."""
    write_between_markers(page, "table", "\n".join(_lines(record)))


def _lines(record: dict[str, Any]) -> list[str]:
    rows = sorted(record["rows"], key=lambda row: row["network"])
    return [*_summary(rows, record), "", LEGEND, "", *_table(rows), "", *_under_half(rows), "", *_failures(rows)]


def _summary(rows: list[dict[str, Any]], record: dict[str, Any]) -> list[str]:
    own = [row["secateur"] for row in rows]
    verified = sum(bool(made.get("verified")) for made in own)
    half = sum(max(made.get("params_removed", 0), made.get("macs_removed", 0)) >= HALF for made in own)
    handled = sum(row["torch_pruning"]["verdict"] in HANDLED for row in rows)
    lines = [
        f"{len(rows)} networks, torch {record['torch']}, Torch-Pruning {record['torch-pruning']}. Secateur: {verified} "
        f"verified, {half} with at least half of the parameters or MACs gone. Torch-Pruning: {handled} run with their "
        "output shapes after something was cut.",
    ]
    ratios = [_ratio(row) for row in rows]
    known = [ratio for ratio in ratios if ratio is not None]
    if known:
        mean = math.exp(sum(map(math.log, known)) / len(known))
        lines.append(
            f"CPU seconds, Secateur over Torch-Pruning: {mean:.2f} in the geometric mean over {len(known)} networks "
            "that both handle."
        )
    return lines


def _ratio(row: dict[str, Any]) -> float | None:
    """CPU seconds of both, where both have a result."""
    own, other = row["secateur"], row["torch_pruning"]
    if not own.get("verified") or other["verdict"] not in HANDLED or not own["cpu_s"] or not other["cpu_s"]:
        return None
    return own["cpu_s"] / other["cpu_s"]


def _table(rows: list[dict[str, Any]]) -> list[str]:
    columns = ["network", "prunable", "parameters gone", "MACs gone", "difference", "s", "proof s"]
    columns += ["TP", "parameters gone", "MACs gone", "s"]
    bars = ["---" if name in ("network", "TP") else "---:" for name in columns]
    return [f"| {' | '.join(columns)} |", f"|{'|'.join(bars)}|", *map(_row, rows)]


def _row(row: dict[str, Any]) -> str:
    own, other = row["secateur"], row["torch_pruning"]
    cells = [
        row["network"],
        *(_percent(own.get(key)) for key in ("prunable_share", "params_removed", "macs_removed")),
        _difference(own),
        _seconds(own["cpu_s"]),
        _seconds(own.get("verify_s")),
        other["verdict"] if other["status"] != "timeout" else "timeout",
        *(_percent(other.get(key)) for key in ("params_removed", "macs_removed")),
        _seconds(other["cpu_s"]),
    ]
    return f"| {' | '.join(cells)} |"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _difference(own: dict[str, Any]) -> str:
    if "relative_diff" not in own:
        return own["status"].partition(":")[0]
    quiet = " (quiet)" if own["effect"] < QUIET else ""
    return f"{own['relative_diff']:.0e}{quiet}" if own["verified"] else "**not verified**"


def _under_half(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["Less than half of the parameters and of the MACs gone, and what keeps most of them whole:", ""]
    for row in rows:
        own = row["secateur"]
        if max(own.get("params_removed", 0), own.get("macs_removed", 0)) < HALF:
            causes = [
                f"{r['code']}: {r['detail']} ({r['unreached_share']:.0%} out of reach)" for r in own.get("reasons", [])
            ]
            lines.append(f"- {row['network']}: {'; '.join(causes) or own['status']}")
    return lines if len(lines) > 2 else ["At least half of the parameters or MACs are gone everywhere."]


def _failures(rows: list[dict[str, Any]]) -> list[str]:
    """Checks that do not hold, by network; what the original cannot do is counted."""
    lines = ["What the smaller networks go through afterwards:", ""]
    names = dict.fromkeys(name for row in rows for name in row["secateur"].get("checks", {}))
    for name in names:
        made = {row["network"]: row["secateur"].get("checks", {}) for row in rows}
        outcomes = {network: checks[name] for network, checks in made.items() if name in checks}
        cannot = [network for network, outcome in outcomes.items() if (outcome or "").startswith(ORIGINAL)]
        failed = {network: outcome for network, outcome in outcomes.items() if outcome and network not in cannot}
        tried = len(outcomes) - len(cannot)
        lines.append(f"- {name}: {tried - len(failed)} of {tried}; where the original cannot either: {len(cannot)}")
        lines += [f"  - {network}: {outcome}" for network, outcome in failed.items()]
    return lines
