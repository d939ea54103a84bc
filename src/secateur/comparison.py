"""Whole channels or single weights, retrained or not: every cell at the same number of parameters, beside the dense
network, random channels, and the small network trained from scratch.

A cell is a function of the seed and of cells before it, and its result a saved folder with its metrics in the run
record, which appears whole or not at all. Networks of earlier cells are always read from their folders, so a comparison
that was killed and started again ends in the numbers of one that was not: at most the cell under way is lost, and of
its training at most an epoch.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur.cost import compare_latency, network_costs
from secateur.data import ImageSet
from secateur.loading import load
from secateur.pipeline import prune
from secateur.sparse import as_tensors, masks_of, prunable_weights, sparsity
from secateur.spec import RunRecord, SecateurError
from secateur.spec.errors import changes
from secateur.spec.files import write_whole
from secateur.store import environment, read_run, save_folder
from secateur.structure import trace
from secateur.structure.capture import Inputs
from secateur.train import TrainConfig, evaluate, fit

DENSE, CHANNELS, WEIGHTS, RANDOM, SCRATCH = "dense", "channels", "single weights", "random channels", "from scratch"
RETRAINED = ", retrained"
CELLS = {
    DENSE: "the network as it is",
    f"{DENSE}{RETRAINED}": "and trained as long as the others",
    f"{CHANNELS}{RETRAINED}": "A: structured, retrained",
    CHANNELS: "B: structured, not retrained",
    f"{WEIGHTS}{RETRAINED}": "C: unstructured, retrained",
    WEIGHTS: "D: unstructured, not retrained",
    RANDOM: "channels chosen at random, otherwise as B",
    f"{RANDOM}{RETRAINED}": "otherwise as A",
    SCRATCH: "the network of A, from random weights, trained as long as the dense one and A together",
}
"""What is compared; A to D are the 2x2."""
TWO_BY_TWO = tuple(cell for cell, said in CELLS.items() if said[1] == ":")
FILE_NAME = "comparison.json"
PACKING_LEVEL = 19

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """What is compared, and where the cells are kept."""

    out: Path
    build: Callable[[int], nn.Module]
    """From a seed a fresh instance of the original, with random weights: to train, and to load folders into."""
    inputs: Inputs
    train_set: ImageSet
    test_set: ImageSet
    budget: Mapping[str, float]
    """Of the channels; single weights go until as many parameters are left."""
    training: TrainConfig
    """Of the dense network, and of what starts from scratch."""
    retraining: TrainConfig
    trained: nn.Module | None = None
    """The dense network, where it is trained already."""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of `prune`, for the channels that are not random."""
    calibration: int = 1024
    """Training images that are looked at without training; 0 for none."""
    source: Mapping[str, Any] = field(default_factory=dict[str, Any])
    told: Callable[[str], object] = lambda _: None

    def rows(self, seeds: Sequence[int], settings: Metrics) -> list[dict[str, Any]]:
        """All cells of all seeds, made or read; each row holds `cell`, `seed` and the metrics.

        settings: what was asked for. Raises SecateurError where `out` holds something else, or a comparison that was
        asked for otherwise.
        """
        self._claim(settings)
        found = [{"cell": cell, "seed": seed, **self.metrics(cell, seed)} for seed in seeds for cell in CELLS]
        record = {"settings": settings, "rows": found, "best": dict(winners(found)), "environment": environment()}
        _write(self.out / FILE_NAME, record)
        return found

    def metrics(self, cell: str, seed: int) -> Metrics:
        """Of one cell, which is made if it is not there."""
        folder = self.folder(cell, seed)
        if not (folder / "run.json").is_file():
            self.told(f"seed {seed}: {cell}")
            self._save(cell, seed, self._made(cell, seed))
            shutil.rmtree(self._state(cell, seed), ignore_errors=True)
        return read_run(folder).after

    def network(self, cell: str, seed: int) -> nn.Module:
        """As saved; made first if it is not there."""
        self.metrics(cell, seed)
        return load(self.folder(cell, seed), self.build(seed)).to(self.retraining.device)

    def folder(self, cell: str, seed: int) -> Path:
        """Where a cell is kept."""
        return self.out / f"seed-{seed}" / cell.replace(", ", "-").replace(" ", "-")

    def _state(self, cell: str, seed: int) -> Path:
        """Where its training is kept until it is done."""
        folder = self.folder(cell, seed)
        return folder.with_name(f".{folder.name}-training")

    def _claim(self, settings: Metrics) -> None:
        path = self.out / FILE_NAME
        if not path.is_file():
            if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
                raise SecateurError(f"{self.out} exists and holds no comparison; choose another --out, or remove it")
            self.out.mkdir(parents=True, exist_ok=True)
            _write(path, {"settings": settings, "rows": []})
            return
        try:
            held = json.loads(path.read_text())["settings"]
        except (ValueError, KeyError, TypeError) as error:
            raise SecateurError(f"{path} cannot be read ({error}); remove {self.out} to start again") from error
        asked = json.loads(json.dumps(settings))
        other = ", ".join(changes(held, asked).values())
        if other:
            raise SecateurError(f"{self.out} holds a comparison with other options ({other}); choose another --out")

    # The cells.

    def _made(self, cell: str, seed: int) -> nn.Module:
        if cell.endswith(RETRAINED):
            return self._trained(self.network(cell.removesuffix(RETRAINED), seed), cell, seed, self.retraining)
        makers = {DENSE: self._dense, CHANNELS: self._channels, WEIGHTS: self._weights, RANDOM: self._random}
        return self._scratch(seed) if cell == SCRATCH else makers[cell](seed)

    def _trained(self, model: nn.Module, cell: str, seed: int, config: TrainConfig) -> nn.Module:
        fit(
            model,
            self.train_set,
            config=replace(config, seed=seed),
            masks=as_tensors(masks_of(model)),
            checkpoint_dir=self._state(cell, seed),
        )
        return model.eval()

    def _dense(self, seed: int) -> nn.Module:
        if self.trained is not None:
            return self.trained
        return self._trained(self.build(seed), DENSE, seed, self.training)

    def _channels(self, seed: int) -> nn.Module:
        return self._cut(self.network(DENSE, seed), seed, self.budget, **self.options)

    def _random(self, seed: int) -> nn.Module:
        others = {key: value for key, value in self.options.items() if key not in ("criterion", "allocator")}
        return self._cut(self.network(DENSE, seed), seed, self.budget, criterion="random", **others)

    def _weights(self, seed: int) -> nn.Module:
        """As many parameters as the channels leave; weights of the whole network compete."""
        dense, small = self.network(DENSE, seed), self.network(CHANNELS, seed)
        prunable = _prunable(dense)
        gone = {"sparsity": min((_count(dense) - _count(small)) / prunable, 1 - 1 / prunable)}
        recover = "none" if not self.calibration or self.options.get("recover") == "none" else "second-order"
        return self._cut(dense, seed, gone, granularity="element", allocator="global", recover=recover)

    def _cut(self, model: nn.Module, seed: int, budget: Mapping[str, float], **options: Any) -> nn.Module:
        return prune(model, self.inputs, budget=budget, data=self._images(seed), seed=seed, **options).model

    def _images(self, seed: int) -> list[torch.Tensor] | None:
        if not self.calibration:
            return None
        images = self.train_set.subset(min(self.calibration, len(self.train_set)), seed)
        return [batch for batch, _ in images.batches(128, device=self.retraining.device)]

    def _scratch(self, seed: int) -> nn.Module:
        model = self.network(CHANNELS, seed)
        forget_(model, seed)
        epochs = self.training.epochs + self.retraining.epochs
        return self._trained(model, SCRATCH, seed, replace(self.training, epochs=epochs))

    # What is kept of them.

    def _save(self, cell: str, seed: int, model: nn.Module) -> None:
        name = f"{type(model).__module__}.{type(model).__qualname__}"
        run = RunRecord("compare", name, after=self._measured(cell, seed, model), options={"cell": cell, "seed": seed})
        save_folder(model, self.folder(cell, seed), run=run, source=self.source)

    def _measured(self, cell: str, seed: int, model: nn.Module) -> dict[str, Any]:
        """The times are taken in turn with those of the dense network: cells are made at different hours."""
        device = self.retraining.device
        dense = model if cell == DENSE else self.network(DENSE, seed)
        share = sparsity(model)
        return {
            **evaluate(model, self.test_set, device=device),
            **network_costs(trace(model, self.inputs, blocks=False)),
            "sparsity": share,
            "params_left": _count(model) - round(share * _prunable(model)),
            **_bytes(model),
            **compare_latency(dense, model, self.inputs).after,
        }


def forget_(model: nn.Module, seed: int) -> None:
    """Draw all weights anew: modules that know how begin as PyTorch lets them begin, other parameters are drawn with
    the mean and the spread that they have."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        known: set[nn.Parameter] = set()
        for module in model.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
                known.update(module.parameters())
        for parameter in set(model.parameters()) - known:
            parameter.copy_(torch.randn_like(parameter) * parameter.std(correction=0) + parameter.mean())


def winners(rows: Sequence[Metrics]) -> Iterator[tuple[str, list[str]]]:
    """Of the 2x2, for each measure the cells that are best by it: those whose mean over seeds is as near to the best
    one as that varies between seeds; of times, or as it varies from one forward to the next."""
    for measure, sign in (("accuracy", -1), ("macs", 1), ("file_bytes", 1), ("packed_bytes", 1), ("speedup", -1)):
        values = {
            cell: torch.tensor([float(row[measure]) for row in rows if row["cell"] == cell], dtype=torch.float64)
            for cell in TWO_BY_TWO
        }
        means = {cell: sign * float(found.mean()) for cell, found in values.items()}
        best = min(means, key=lambda cell: means[cell])
        spread = float(values[best].std(correction=0))
        if measure == "speedup":
            spread = max(spread, *(row["speedup_iqr"] / 2 for row in rows if row["cell"] == best))
        yield measure, [cell for cell, mean in means.items() if mean <= means[best] + spread]


def _bytes(model: nn.Module) -> dict[str, int]:
    """Of the weights as a file, and of that file packed without loss."""
    import zstandard
    from safetensors.torch import save

    written = save({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()})
    return {"file_bytes": len(written), "packed_bytes": len(zstandard.compress(written, PACKING_LEVEL))}


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _prunable(model: nn.Module) -> int:
    return sum(weight.numel() for weight in prunable_weights(model).values())


def _write(path: Path, record: Metrics) -> None:
    write_whole(path, json.dumps(record, indent=1) + "\n")
