"""Half of the channels of a whole zoo of real networks: what goes, how exact it is, what still works afterwards, and
the same asked of Torch-Pruning.

    python benchmarks/zoo.py --zoo DIR [--only PATTERN] [--heavy] [--export] [--workers 2] [--resume]

DIR (or the environment variable SECATEUR_ZOO) holds a module `zoo` whose `entries()` have `name`, `heavy` and
`build() -> (model, inputs)`. Writes results/zoo.json and the table of docs/coverage.md.

Seconds are CPU seconds of one thread, the less of two runs, ours and theirs in turn: structure, scores, plan and
surgery on our side (the proof has no counterpart there), dependency graph and pruning on theirs, with the output layers
and the numbers of heads given as its examples do. Shares removed are counted from the tensors, on both sides.
"""

from __future__ import annotations

import argparse
import copy
import fnmatch
import gc
import json
import math
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import torch
from torch import nn
from torch.utils._pytree import tree_map

import secateur as sc
from secateur.spec import SecateurError, Structure
from secateur.structure.capture import call_model, normalise_inputs, tensors_in
from secateur.surgery import eval_outputs

ROOT = Path(__file__).parent.parent
RESULT, TABLE = ROOT / "benchmarks" / "results" / "zoo.json", ROOT / "docs" / "coverage.md"
BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"
PATIENCE_S = 120
REPEATS = 2
HALF = 0.5


def measure(entry: Any, *, export: bool) -> dict[str, Any]:
    """One row of the table."""
    model, inputs = entry.build()
    inputs = normalise_inputs(inputs)
    row: dict[str, Any] = {"network": entry.name, "parameters": _parameters(model)}
    try:
        result = sc.prune(model, inputs, budget={"channels": HALF})
    except SecateurError as error:
        return {**row, "error": str(error)}
    small, structure = result.model.eval(), result.structure
    row |= {
        "prunable_share": structure.prunable_share(),
        "params_removed": 1 - _parameters(small) / row["parameters"],
        "macs_removed": 1 - result.after["macs"] / max(1, result.before["macs"]),
        "relative_diff": result.verification.relative_diff,
        "verified": result.verification.ok,
        "reasons": _reasons(structure),
        "same_shapes": _shapes(model, inputs) == _shapes(small, inputs),
        "gradients": _learns_like(model, small, inputs),
        "copies": _equal(eval_outputs(small, inputs), eval_outputs(copy.deepcopy(small), inputs)),
        "loads": _loads(result, entry, inputs),
        "again": _again(small, inputs),
    }
    if export:
        row["exports"] = _exports(small, inputs) if _exports(model, inputs) else None
    return row | _race(entry, structure)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _shapes(model: nn.Module, inputs: Any) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in eval_outputs(model, inputs)]


def _reasons(structure: Structure) -> list[str]:
    """Why axes stay whole, the most frequent first; without those that no network could do without."""
    pins = [axis.pin for axis in structure.axes if axis.pin is not None]
    counts = Counter(
        f"{pin.code}: {pin.detail}" for pin in pins if pin.code not in ("input", "spatial", "no-parameter")
    )
    return [f"{reason} ({count})" for reason, count in counts.most_common(4)]


def _learns_like(model: nn.Module, small: nn.Module, inputs: Any) -> bool | None:
    """Whether one backward pass reaches the parameters that it reaches in the original; None where that does not
    train."""
    reached = _reached(model, inputs)
    return None if reached is None else reached == _reached(small, inputs)


def _reached(model: nn.Module, inputs: Any) -> set[str] | None:
    learner = copy.deepcopy(model).train()
    doubled = inputs if isinstance(inputs, dict) else tree_map(_twice, inputs)
    try:
        outputs = tensors_in(call_model(learner, doubled))
        sum(tensor.float().sum() for tensor in outputs if tensor.requires_grad).backward()
    except Exception:  # detectors want targets in train mode
        return None
    grads = {name: parameter.grad for name, parameter in learner.named_parameters() if parameter.grad is not None}
    return {name for name, grad in grads.items() if bool(grad.isfinite().all())}


def _twice(leaf: Any) -> Any:
    return torch.cat([leaf, leaf]) if isinstance(leaf, torch.Tensor) and leaf.dim() else leaf


def _equal(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    same = (torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(left, right, strict=True))
    return all(same)


def _loads(result: sc.PruneResult, entry: Any, inputs: Any) -> str:
    with tempfile.TemporaryDirectory() as folder:
        result.save(f"{folder}/out")
        how = "by itself"
        try:
            loaded = sc.load(f"{folder}/out")
        except SecateurError:
            loaded, how = sc.load(f"{folder}/out", entry.build()[0]), "with the network given"
        return how if _equal(eval_outputs(result.model, inputs), eval_outputs(loaded, inputs)) else "different"


def _again(small: nn.Module, inputs: Any) -> bool:
    try:
        return sc.prune(small, inputs, budget={"channels": 0.7}).verification.ok
    except SecateurError:
        return False


def _exports(model: nn.Module, inputs: Any) -> bool:
    args, kwargs = ((), inputs) if isinstance(inputs, dict) else (inputs, {})
    try:
        torch.export.export(model, args, kwargs)
    except Exception:  # anything at all may be in the way
        return False
    return True


# The race.


def _race(entry: Any, structure: Structure) -> dict[str, Any]:
    mine: list[float] = []
    theirs: list[float] = []
    verdict = ""
    for _ in range(REPEATS):
        mine.append(_cpu_seconds(_ours, *entry.build())[0])
        model, inputs = entry.build()
        before = _parameters(model), _shapes(model, normalise_inputs(inputs))
        seconds, error = _cpu_seconds(lambda model, inputs: _rival(model, inputs, structure), model, inputs)
        theirs.append(seconds)
        verdict = error or _verdict(model, normalise_inputs(inputs), *before)
        if error:
            break
    handled = verdict in ("full", "partial")
    times = {"cpu_s": min(mine), "rival_cpu_s": min(theirs), "rival": verdict}
    return {**times, "ratio": min(mine) / min(theirs) if handled else None}


def _cpu_seconds(run: Callable[[nn.Module, Any], object], model: nn.Module, inputs: Any) -> tuple[float, str]:
    gc.collect()
    start = time.process_time()
    error = ""
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
    try:
        run(model, inputs)
    except _TooLong:
        error = f"over {PATIENCE_S} s"
    except Exception as failure:  # a rival may raise anything
        error = f"{type(failure).__name__}: {failure}".splitlines()[0][:100]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return time.process_time() - start, error


class _TooLong(BaseException):
    pass


def _ours(model: nn.Module, inputs: Any) -> None:
    structure = sc.trace(model, inputs, blocks=False)  # Torch-Pruning has no counterpart to these
    scores = sc.score(model, structure, criterion="l2")
    sc.shrink(model, sc.allocate(structure, scores, {"channels": HALF}))


def _rival(model: nn.Module, inputs: Any, structure: Structure) -> None:
    import torch_pruning

    pinned = {axis.name for axis in structure.axes if axis.pin is not None and axis.pin.code == "output"}
    ends = {
        name.removesuffix(".weight")
        for name, spec in structure.tensors.items()
        if name.endswith(".weight") and spec.dims and isinstance(spec.dims[0], str) and spec.dims[0] in pinned
    }
    heads: dict[nn.Module, int] = {}
    for module in model.modules():
        count = getattr(module, "num_heads", getattr(module, "num_attention_heads", None))
        if isinstance(count, int):
            heads |= {layer: count for layer in module.modules() if isinstance(layer, nn.Linear)}
    options: dict[str, Any] = {}
    if isinstance(inputs, dict):
        options["forward_fn"] = lambda model, inputs: model(**inputs)
    pruner = torch_pruning.pruner.BasePruner(
        model,
        inputs,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=HALF,
        ignored_layers=[module for path, module in model.named_modules() if path in ends],
        num_heads=heads,
        **options,
    )
    pruner.step()


def _verdict(model: nn.Module, inputs: Any, parameters: int, shapes: list[tuple[int, ...]]) -> str:
    try:
        now = _shapes(model, inputs)
    except Exception as failure:
        return f"does not run: {type(failure).__name__}"
    if now != shapes:
        return "other output shapes"
    removed = 1 - _parameters(model) / parameters
    return "full" if removed >= HALF else "partial" if removed > 0.05 else "nothing removed"


# All of them.


def _work(task: tuple[str, str, bool]) -> dict[str, Any]:
    folder, name, export = task
    entry = next(entry for entry in _entries(folder) if entry.name == name)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    signal.signal(signal.SIGALRM, _raise)
    try:
        return measure(entry, export=export)
    except Exception as failure:  # one network's failure is a row
        return {"network": name, "error": f"{type(failure).__name__}: {failure}"[:300]}


def _raise(*_: object) -> None:
    raise _TooLong


def _entries(folder: str) -> list[Any]:
    if folder not in sys.path:
        sys.path.insert(0, folder)
    import zoo

    return zoo.entries()


def table(rows: list[dict[str, Any]]) -> str:
    """The page's table, the networks under one half with their reasons, and the figures over all."""
    good = [row for row in rows if "error" not in row]
    half = [row for row in good if max(row["params_removed"], row["macs_removed"]) >= HALF - 5e-4]
    ratios = [row["ratio"] for row in good if row["ratio"]]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan
    rivals = Counter(row["rival"] in ("full", "partial") for row in good)
    lines = [
        f"{len(rows)} networks; {len(good)} pruned, {sum(row['verified'] for row in good)} verified; "
        f"{len(half)} ({len(half) / max(1, len(rows)):.1%}) lose at least half of their parameters or MACs. "
        f"Torch-Pruning handles {rivals[True]} of them; over these, our CPU time is {mean:.2f} of its own "
        "(geometric mean).",
        "",
        "| network | prunable | parameters gone | MACs gone | difference | CPU s | Torch-Pruning | CPU s |",
        "|---|---:|---:|---:|---:|---:|---|---:|",
    ]
    for row in rows:
        if "error" in row:
            lines.append(f"| {row['network']} | | | | | | {row['error'][:80]} | |")
            continue
        lines.append(
            f"| {row['network']} | {row['prunable_share']:.0%} | {row['params_removed']:.0%} | "
            f"{row['macs_removed']:.0%} | {row['relative_diff']:.0e} | {row['cpu_s']:.2f} | "
            f"{row['rival'].replace('|', '/')[:60]} | {row['rival_cpu_s']:.2f} |"
        )
    lines += ["", "Under one half, and why:", ""]
    lines += [f"- {row['network']}: {'; '.join(row['reasons'])}" for row in good if row not in half]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoo", default=os.environ.get("SECATEUR_ZOO"))
    parser.add_argument("--only", default="*")
    parser.add_argument("--heavy", action="store_true")
    parser.add_argument("--export", action="store_true")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    if not options.zoo:
        parser.error("--zoo DIR, or SECATEUR_ZOO, must name a folder with a zoo.py")
    done = json.loads(RESULT.read_text())["rows"] if options.resume and RESULT.exists() else []
    known = {row["network"] for row in done}
    wanted = [
        (options.zoo, entry.name, options.export)
        for entry in _entries(options.zoo)
        if fnmatch.fnmatch(entry.name, options.only) and entry.name not in known and (options.heavy or not entry.heavy)
    ]
    pool = multiprocessing.get_context("spawn").Pool(options.workers, maxtasksperchild=12)
    with pool:
        for row in pool.imap(_work, wanted):
            done.append(row)
            print(row["network"], row.get("error") or f"{row['params_removed']:.2f} {row['ratio']}", flush=True)
            _write(done)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"largest process: {peak / 2**20:.1f} GiB", file=sys.stderr)


def _write(rows: list[dict[str, Any]]) -> None:
    result = {"budget": f"channels={HALF}", "torch": torch.__version__, "rows": rows}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    page = TABLE.read_text()
    start, stop = page.index(BEGIN) + len(BEGIN), page.index(END)
    TABLE.write_text(f"{page[:start]}\n{table(rows)}\n{page[stop:]}")


if __name__ == "__main__":
    main()
