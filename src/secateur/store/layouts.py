"""How weights lie in a folder: under Secateur's own names, or as transformers writes them.

A network that its configuration describes is written by transformers' own `save_pretrained`, so that `from_pretrained`
reads the folder; any other holds every tensor under its name in the network.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from secateur.hugging_face import config_of, described, is_transformers_model
from secateur.models import build_model
from secateur.models.hf_source import quiet
from secateur.spec import ModelError, StoreError
from secateur.spec.saved import Layout
from secateur.store.history import history_of
from secateur.store.origin import leads_to
from secateur.structure import named_tensors

Source = dict[str, Any]
"""How to build the original again: keyword arguments of `build_model`."""

WEIGHTS = "model.safetensors"
CONFIG, ORIGINAL_CONFIG = "config.json", "original_config.json"
ONE_FILE = "100000GB"


def write_weights(model: nn.Module, folder: Path) -> tuple[Layout, Source]:
    """Write the tensors, and the configuration of a network of transformers; returns how they lie, and what the
    configuration can build, if anything."""
    owner: Any = model
    if described(model):
        with quiet():
            owner.save_pretrained(folder, max_shard_size=ONE_FILE)
        return "transformers", {"name": f"hf:{CONFIG}"}
    save_file(_own_memory(model), folder / WEIGHTS)
    if not is_transformers_model(model):
        return "secateur", {}
    path = folder / ORIGINAL_CONFIG
    path.write_text(_original_config(model))
    if leads_to({"name": f"hf:{path}"}, history_of(model), model):
        return "secateur", {"name": f"hf:{ORIGINAL_CONFIG}"}
    path.unlink()
    return "secateur", {}


def _original_config(model: nn.Module) -> str:
    config_class = cast(Any, type(model)).config_class
    text = config_class.from_dict(config_of(model)).to_json_string()
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    config = {**json.loads(text), "architectures": [type(model).__name__], "dtype": dtype}
    return json.dumps(config, indent=1)


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor by its name in the network; raises StoreError where they cannot be read."""
    try:
        return load_file(folder / WEIGHTS)
    except (SafetensorError, OSError, ValueError) as error:
        raise StoreError(f"{folder / WEIGHTS} cannot be read: {error}; copy the folder again") from error


def read_stock(folder: Path) -> nn.Module:
    """The network that transformers itself loads from the folder; raises StoreError where it cannot."""
    try:
        return build_model(f"hf:{folder}")
    except ModelError as error:
        raise StoreError(f"{error}; copy the folder again") from error


def _own_memory(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every tensor of the model, none sharing memory with another, as the file format demands."""
    tensors: dict[str, torch.Tensor] = {}
    taken: set[int] = set()
    for found in named_tensors(model):
        tensor = found.tensor.detach().contiguous().cpu()
        storage = tensor.untyped_storage().data_ptr()
        tensors[found.name] = tensor.clone() if storage in taken else tensor
        taken.add(storage)
    return tensors
