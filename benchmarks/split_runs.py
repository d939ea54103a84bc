"""Networks over several processes: the same outputs as one, and exactly the bytes that were predicted.

    SECATEUR_DATA=... python benchmarks/split_runs.py [--networks lenet5 ...] [--devices 2 4 5]

LeNet-5 (trained on MNIST for an epoch), VGG-9 (trained on 5,000 images of CIFAR-10 for an epoch) and ResNet-20 (stored
weights) run 1,000 test images over a gloo process for each device, before pruning, after pruning to 40 % of the bytes
without training, and with devices 0 and 1 not linked. `apart` is the largest difference from the network as a whole, of
its largest output.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from runs import read_record, write_record
from torch import Tensor, nn

from secateur.data import ImageSet, open_data
from secateur.models import build_model, load_weights
from secateur.partition import Split, Topology, partition, prune_crossings, run_split
from secateur.train import TrainConfig, evaluate, fit

RESULT = Path(__file__).parent / "results" / "split_runs.json"
DATA = Path(os.environ.get("SECATEUR_DATA", "."))
IMAGES, BATCH, CALIBRATION = 1000, 50, 256
BUDGET = 0.4
SOURCES = {"lenet5": "mnist", "vgg9_bn": "cifar10", "resnet20": "cifar10"}
WAYS = ("dense", "pruned", "a link missing")


def trained(name: str) -> tuple[nn.Module, ImageSet, ImageSet]:
    """The network, training and test images."""
    torch.manual_seed(0)
    shape = (1, 32, 32) if name == "lenet5" else (3, 32, 32)
    train, test = (
        open_data(SOURCES[name], split, input_shape=shape, limit=limit)
        for split, limit in (("train", 5000), ("test", IMAGES))
    )
    model = build_model(name)
    if name == "resnet20":
        load_weights(model, DATA / "resnet20-cifar10-jpeg.safetensors")
    else:
        fit(model, train, config=TrainConfig(epochs=1, batch_size=64, learning_rate=0.05))
    return model.eval(), train, test


def measured(split: Split, model: nn.Module, test: ImageSet) -> dict[str, Any]:
    """A run of processes beside the network as a whole."""
    inputs = torch.cat([x for x, _ in test.batches(BATCH)])
    with torch.no_grad():
        wanted = torch.cat([model(x) for x in inputs.split(BATCH)])
    with tempfile.TemporaryDirectory() as folder:
        split.save(Path(folder) / "split", model)
        found = run_split(Path(folder) / "split", [inputs])
    predicted = split.traffic(model).bytes * found.batches
    return {
        "apart": _apart(found.outputs[0], wanted),
        "accuracy": 100 * evaluate(model, test)["accuracy"],
        "bytes": int(found.bytes.sum()),
        "bytes_as_predicted": bool(np.array_equal(found.bytes, predicted)),
        "without_link": int(found.bytes[split.topology.missing].sum()),
        "seconds": found.seconds,
    }


def _apart(made: Tensor, wanted: Tensor) -> float:
    return float((made - wanted).abs().max() / wanted.abs().max())


def run(way: str, model: nn.Module, train: ImageSet, test: ImageSet, devices: int) -> dict[str, Any]:
    topology = Topology(devices=devices)
    if way == "a link missing":
        topology = Topology.model_validate({"devices": devices, "unlike": [{"devices": [0, 1], "missing": True}]})
    split = partition(model, next(iter(test.batches(BATCH)))[0], topology)
    if way != "dense":
        data = [x for x, _ in train.subset(CALIBRATION, 0).batches(64)]
        model = prune_crossings(model, split, BUDGET, data, recover="refit").model
    return measured(split, model, test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(SOURCES), choices=list(SOURCES))
    parser.add_argument("--devices", type=int, nargs="+", default=[2, 4, 5])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.networks:
        model, train, test = trained(name)
        for devices in options.devices:
            for way in WAYS:
                row = run(way, model, train, test, devices)
                print(name, devices, way, row, flush=True)
                record = read_record(RESULT)
                record.setdefault(name, {}).setdefault(str(devices), {})[way] = row
                write_record(RESULT, record)


if __name__ == "__main__":
    main()
