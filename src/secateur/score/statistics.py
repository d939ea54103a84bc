"""Sums over samples that data-driven criteria are computed from.

All are sums, so that batches can be split and ranks can be added up without changing the result; they go to a file and
come back.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (what torch and safetensors say of their types is incomplete)
from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from secateur.spec import ScoreError

Tensors = dict[str, torch.Tensor]
VERSION = "1"


@dataclass
class Statistics:
    """Named sums, float64, with the fingerprint of the model that they were measured on.

    Keys are `kind/axis` or `kind/axis/consumer` for activations, blocks and gates, `kind/parameter` for gradients, and
    `samples` and `batches` for the counts.
    """

    fingerprint: str
    sums: Tensors = field(default_factory=dict[str, torch.Tensor])
    samples: Tensors = field(default_factory=dict[str, torch.Tensor])
    """Values kept per sample, `(samples, ...)`, in the order of the data."""

    def add(self, key: str, value: torch.Tensor) -> None:
        """Add to a sum."""
        value = value.detach().to("cpu", torch.float64)
        self.sums[key] = self.sums[key] + value if key in self.sums else value

    def append(self, key: str, values: torch.Tensor) -> None:
        """Keep one row per sample."""
        values = values.detach().to("cpu", torch.float32)
        self.samples[key] = torch.cat([self.samples[key], values]) if key in self.samples else values

    def of(self, kind: str) -> Mapping[str, torch.Tensor]:
        """Sums of one kind, by what follows it in the key."""
        prefix = f"{kind}/"
        return {key.removeprefix(prefix): value for key, value in self.sums.items() if key.startswith(prefix)}

    def rows(self, kind: str) -> Mapping[str, torch.Tensor]:
        """Per-sample values of one kind, by what follows it in the key."""
        prefix = f"{kind}/"
        return {key.removeprefix(prefix): value for key, value in self.samples.items() if key.startswith(prefix)}

    def count(self, kind: str) -> float:
        """How many samples or batches were measured for a kind."""
        if f"{kind}#" not in self.sums:
            raise ScoreError(f"the statistics hold no {kind}; measure again with the criterion that needs them")
        return float(self.sums[f"{kind}#"])

    def merge(self, other: Statistics) -> None:
        """Add what was measured on other samples (another part of the data, another rank)."""
        if other.fingerprint != self.fingerprint:
            raise ScoreError("statistics of another model cannot be added: the fingerprints differ")
        for key, value in other.sums.items():
            self.add(key, value)
        for key, values in other.samples.items():
            self.append(key, values)

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file; it appears whole or not at all."""
        target = Path(path)
        temporary = target.with_name(f".{target.name}.part")
        tensors = {f"sum:{key}": value.contiguous() for key, value in self.sums.items()}
        tensors |= {f"row:{key}": value.contiguous() for key, value in self.samples.items()}
        header = {"secateur-statistics": VERSION, "about": json.dumps({"fingerprint": self.fingerprint})}
        try:
            save_file(tensors, temporary, metadata=header)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> Statistics:
        """Read a file that `save` wrote; raises ScoreError for any other."""
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
                if header.get("secateur-statistics") != VERSION:
                    raise ScoreError(f"{path} holds no statistics of this version; measure again")
                made = cls(str(json.loads(header["about"])["fingerprint"]))
                for key in file.keys():  # noqa: SIM118  (not a dict)
                    kind, _, name = key.partition(":")
                    (made.sums if kind == "sum" else made.samples)[name] = file.get_tensor(key)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            if isinstance(error, ScoreError):
                raise
            raise ScoreError(f"{path} cannot be read as statistics: {error}; measure again") from error
        return made
