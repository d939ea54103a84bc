"""The README.md of a saved folder: how to load it, what it costs, the proof, where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secateur.spec import ElementMasks, PastRun, Plan, RunRecord

SAFE_SOURCES = ("torchvision:", "timm:", "hf:", "nas:")
"""Prefixes that a folder may ask to be built from; a factory of somebody's own runs only when the caller names it."""
DONE = {"train": "trained", "prune": "cut", "finetune": "retrained", "search": "searched", "partition": "taken apart"}
"""What a network has been through after each verb."""
TOLD = (
    "model", "data", "budget", "granularity", "criterion", "allocator", "recover", "method", "epochs", "strategy",
    "devices", "iteration", "cell", "seed",
)  # fmt: skip
"""Options that say in a line what was done."""
Column = tuple[str, Mapping[str, Any]]


def is_safe(name: str) -> bool:
    """Whether a folder may ask for what is built by this name."""
    return ":" not in name or name.startswith(SAFE_SOURCES)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What lies in the folder besides the run."""

    kind: type
    """Class of the network."""
    source: Mapping[str, Any]
    """How the original is built; empty where only the caller knows."""
    plans: Sequence[Plan]
    masks: ElementMasks | None
    sha256: Mapping[str, str]
    """Of the files, by name."""
    from_pretrained: bool
    """Whether transformers' own loader reads the folder, too."""


def model_card(run: RunRecord, facts: Facts) -> str:
    """Markdown for a saved model."""
    sections = {
        f"# {facts.kind.__name__}": _loading(run, facts),
        "## What it costs": _costs(run),
        "## Proof": _proof(run, facts),
        "## Where it comes from": _provenance(run, facts),
    }
    shown = {title: list(lines) for title, lines in sections.items()}
    return "\n".join(f"{title}\n\n" + "\n".join(lines) + "\n" for title, lines in shown.items() if lines)


def _loading(run: RunRecord, facts: Facts) -> Iterator[str]:
    yield "In this folder; from anywhere else with its path in place of the dot:\n"
    yield from ("```python", *_lines(facts), "```")
    if facts.from_pretrained:
        name = facts.kind.__name__
        yield "\nOr by transformers alone:\n"
        yield from ("```python", f"from transformers import {name}", "", f'model = {name}.from_pretrained(".")', "```")
    yield from (f"\nNote: {note}." for note in run.notes)


def _lines(facts: Facts) -> Sequence[str]:
    """Python that loads the folder, as short as the source allows."""
    source, name = facts.source, facts.source.get("name", "")
    if name and is_safe(name):
        return ("import secateur as sc", "", 'model = sc.load(".")')
    if name:
        options = "".join(f", {key}={_value(source[key])}" for key in ("num_classes", "input_shape") if key in source)
        return (
            "import secateur as sc",
            "from secateur.models import build_model",
            "",
            f'model = sc.load(".", build_model("{name}"{options}))  # runs code of its author',
        )
    module, called = facts.kind.__module__, facts.kind.__qualname__.rpartition("<locals>.")[2]
    importable = module != "__main__" and called == facts.kind.__qualname__
    return (
        "import secateur as sc",
        *([f"from {module} import {called.partition('.')[0]}"] if importable else []),
        "",
        f'model = sc.load(".", {called}())  # with the arguments that the original was built with',
    )


def _value(value: Any) -> str:
    return str(tuple(value)) if isinstance(value, list | tuple) else str(value)


def _costs(run: RunRecord) -> Iterator[str]:
    columns = [(title, numbers) for title, values in _columns([*run.past, run]) if (numbers := _numbers(values))]
    keys = list(dict.fromkeys(key for _, numbers in reversed(columns) for key in numbers))
    if keys:
        yield f"| | {' | '.join(title for title, _ in columns)} |"
        yield "|---|" + "---:|" * len(columns)
    for key in keys:
        yield f"| {key} | {' | '.join(_shown(numbers.get(key)) for _, numbers in columns)} |"


def _columns(runs: Sequence[RunRecord | PastRun]) -> Iterator[Column]:
    """The network before anything was done to it, and after each thing that was; random weights are no beginning."""
    title, known = "before", {} if runs[0].verb == "train" else runs[0].before
    for one in runs:
        yield title, known if one.verb == "train" else {**one.before, **known}
        stages = [stage for stage in one.stages if "stage" in stage]
        cut = next((stage for stage in stages if stage["stage"] == "cut"), None)
        healed = cut is not None and stages[-1] is not cut
        if cut is not None and healed:
            yield "cut", cut
        title, known = "healed" if healed else DONE.get(one.verb, "after"), one.after
    yield title, known


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {key: value for key, value in values.items() if type(value) in (int, float)}


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _proof(run: RunRecord, facts: Facts) -> Iterator[str]:
    for one in (*run.past, run):
        proof = one.verification
        if proof is not None:
            yield (
                f"{'Verified' if proof.ok else 'NOT verified'} by `{one.verb}`: the largest difference from the "
                f"reference is {proof.max_abs_diff:.3g}, {proof.relative_diff:.2g} of the largest output "
                f"(tolerance {proof.tolerance:g}).\n"
            )
    yield "`secateur verify .` checks the files against `manifest.json`, and with `--original MODEL` cuts again."
    yield from ("", "| file | sha256 |", "|---|---|")
    yield from (f"| {file} | `{digest}` |" for file, digest in facts.sha256.items())


def _provenance(run: RunRecord, facts: Facts) -> Iterator[str]:
    built = ", ".join(f"{key} {_value(value)}" for key, value in facts.source.items() if key != "name")
    name = facts.source.get("name")
    yield f"A `{run.model}`" + (f", built as `{name}`{f' ({built})' if built else ''}." if name else ".")
    yield from ("", *(f"{place}. {_told(one)}" for place, one in enumerate((*run.past, run), 1)), "")
    blocks = [block.module for plan in facts.plans for block in plan.removed_blocks]
    if blocks:
        yield f"Blocks that are gone: {', '.join(f'`{block}`' for block in blocks)}.\n"
    if facts.masks is not None:
        count = sum(kept.size for kept in facts.masks.kept.values())
        zeros = count - sum(int(kept.sum()) for kept in facts.masks.kept.values())
        yield (
            f"Of {count:,} weights in {len(facts.masks.kept)} tensors {zeros:,} are zero "
            f"(pattern {facts.masks.pattern}; `masks.safetensors` says which).\n"
        )
    yield "`run.json` has every figure, `plan.json` says what was kept."


def _told(run: RunRecord | PastRun) -> str:
    """The run in a line: what was asked, and with which versions."""
    asked = [f"{key} {_option(value)}" for key in TOLD if (value := run.options.get(key)) is not None]
    made = [f"{name} {version}" for name, version in run.environment.items()]
    return f"`{run.verb}`" + (f": {', '.join(asked)}" if asked else "") + (f" ({', '.join(made)})" if made else "")


def _option(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
