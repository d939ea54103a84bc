"""How many networks of transformers come out of pruning as networks that `from_pretrained` loads.

    python benchmarks/huggingface_out.py --zoo DIR

DIR (or the environment variable SECATEUR_ZOO) holds a module `zoo` whose `entries()` have `name`, `source` and
`build() -> (model, inputs)`. Each network of transformers is pruned to two budgets in every way of tying; those whose
configuration says the result are saved and loaded by `from_pretrained`, and compared bit for bit.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

import secateur as sc
from secateur.spec import SecateurError
from secateur.store import read_manifest
from secateur.structure.capture import normalise_inputs
from secateur.surgery import eval_outputs

RESULT = Path(__file__).parent / "results" / "huggingface_out.json"
BUDGETS = ("macs=0.5", "channels=0.5")
TIES = ("none", "auto", "config")


def measure(entry: Any, budget: str, tie: str) -> dict[str, Any]:
    """One row: whether `from_pretrained` loads the result, or the reason why not."""
    torch.manual_seed(0)
    model, inputs = entry.build()
    row = {"network": entry.name.removeprefix("hf/"), "budget": budget, "tie": tie}
    try:
        result = sc.prune(model, inputs, budget=budget, tie=tie)
    except SecateurError as error:
        return {**row, "pruned": False, "reason": str(error)}
    kept = {key: result.after[key] / result.before[key] for key in ("macs", "param_count")}
    verified = result.verification is not None and result.verification.ok
    return {**row, "pruned": True, "verified": verified, "kept": kept, **_loaded(result, inputs)}


def _loaded(result: sc.PruneResult, inputs: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        saved = result.save(Path(folder) / "out")
        given = normalise_inputs(inputs)
        expected = eval_outputs(result.model, given)
        own = _equal(expected, eval_outputs(sc.load(saved), given))
        if read_manifest(saved).layout != "transformers":
            return {"from_pretrained": False, "reason": result.notes[0], "load_equals": own}
        kind: Any = type(result.model)
        stock = copy.deepcopy(kind.from_pretrained(saved))  # out of the file that is mapped into memory
        return {
            "from_pretrained": True,
            "stock_equals": _equal(expected, eval_outputs(stock, given)),
            "load_equals": own,
        }


def _equal(expected: list[torch.Tensor], got: list[torch.Tensor]) -> bool:
    return all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(expected, got, strict=True))


def summary(rows: list[dict[str, Any]]) -> str:
    """The table: a budget and a way of tying a line."""
    lines = ["| budget | tie | pruned | loaded by from_pretrained | bit for bit |", "|---|---|---:|---:|---:|"]
    for budget in BUDGETS:
        for tie in TIES:
            own = [row for row in rows if (row["budget"], row["tie"]) == (budget, tie)]
            pruned = sum(row["pruned"] for row in own)
            stock = [row for row in own if row.get("from_pretrained")]
            equal = sum(row["stock_equals"] for row in stock)
            lines.append(f"| {budget} | `{tie}` | {pruned} of {len(own)} | {len(stock)} | {equal} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--zoo", default=os.environ.get("SECATEUR_ZOO"), help="folder with zoo.py")
    folder = parser.parse_args().zoo
    if folder is None:
        parser.error("name the folder with zoo.py: --zoo DIR, or the environment variable SECATEUR_ZOO")
    sys.path.insert(0, folder)
    import zoo

    torch.set_num_threads(1)
    entries = [entry for entry in zoo.entries() if entry.source == "transformers"]
    rows = [measure(entry, budget, tie) for budget in BUDGETS for tie in TIES for entry in entries]
    import transformers

    made_with = {"torch": torch.__version__, "transformers": transformers.__version__}
    RESULT.write_text(json.dumps({**made_with, "rows": rows}, indent=1) + "\n")
    print(summary(rows))


if __name__ == "__main__":
    main()
