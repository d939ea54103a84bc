"""The metrics of one network, under the keys of docs/glossary.md."""

from __future__ import annotations

from typing import Any

from secateur.cli.opening import Opened
from secateur.cost import measure_latency, network_costs
from secateur.data import ImageSet, TextSet
from secateur.sparse import sparsity
from secateur.structure import trace
from secateur.train import evaluate


def measured(opened: Opened, data: ImageSet | TextSet, *, latency: bool = False) -> dict[str, Any]:
    """Accuracy or perplexity, loss, costs of one forward, and where asked for its time."""
    found = {**evaluate(opened.model, data, device=opened.device)}
    found |= network_costs(trace(opened.model, opened.inputs, blocks=False))
    found["sparsity"] = sparsity(opened.model)
    return found | (measure_latency(opened.model, opened.inputs) if latency else {})
