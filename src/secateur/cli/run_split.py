"""`secateur run-split`: a partition run for real, one process for each device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from secateur.cli.options import DataOptions
from secateur.cli.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Options of `run-split`."""

    folder: Annotated[Path | None, Argument(metavar="FOLDER", help="What secateur partition --out wrote.")] = None
    devices: Annotated[int | None, Option(metavar="N", help="Refuse a partition for another number.")] = None
    split: Annotated[str, Option(help="train or test: which images.")] = "test"
    factory: Annotated[
        str | None, Option(metavar="package.module:factory", help="Builds the network that was taken apart.")
    ] = None
    slow: Annotated[bool, Option("--slow", help="Links take as long as the topology says.")] = False
    timeout: Annotated[float, Option(help="Seconds that a device waits for another at most.")] = 60.0


def run(options: Options) -> Outcome:
    """Run a partition, a process for each device: accuracy, measured bytes beside the predicted ones, and times."""
    import numpy as np
    import torch

    from secateur.cli.opening import look_up
    from secateur.cli.options import ModelOptions
    from secateur.cli.partition import MODEL
    from secateur.partition import run_split
    from secateur.partition.folder import read_record
    from secateur.partition.split import MOST_APART
    from secateur.partition.timing import estimate
    from secateur.partition.traffic import find_traffic
    from secateur.spec import SecateurError, StoreError
    from secateur.structure.capture import tensors_in
    from secateur.surgery import compared
    from secateur.train.outputs import logits_of

    if options.folder is None:
        raise StoreError("name the folder of a partition: secateur run-split FOLDER --data ...")
    record = read_record(options.folder)
    if options.devices not in (None, record.topology.devices):
        raise SecateurError(f"{options.folder} is for {record.topology.devices} devices, not {options.devices}")
    target = look_up(ModelOptions(model=str(options.folder / MODEL), factory=options.factory))
    images = target.images(options, options.split)
    batches = list(images.batches(256))
    inputs, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    found = run_split(options.folder, [inputs], slowed=options.slow, timeout=options.timeout)
    model = target.build(images).model.eval()
    with torch.no_grad():
        outputs = [model(part) for part, _ in batches]
    tensors = [list(tensors_in(output)) for output in outputs]
    proof = compared([torch.cat(parts) for parts in zip(*tensors, strict=True)], found.outputs, MOST_APART)
    scores = next(made for made, one in zip(found.outputs, tensors[0], strict=True) if one is logits_of(outputs[0]))
    arrangement, needs = record.arrangement(), record.find_needs()
    predicted = find_traffic(arrangement, needs).bytes * found.batches
    estimated = estimate(arrangement, needs, record.topology).critical * found.batches if options.slow else None
    as_predicted = bool(np.array_equal(predicted, found.bytes))
    accuracy = float((scores.argmax(1) == labels).double().mean())
    result = {
        "samples": found.samples,
        "accuracy": accuracy,
        "apart": proof.relative_diff,
        "bytes": found.bytes.tolist(),
        "bytes_as_predicted": as_predicted,
        "seconds": found.seconds,
        "seconds_estimated": estimated,
        "waited": found.waited,
    }
    lines = [
        f"{found.samples} samples on {record.topology.devices} devices, accuracy {100 * accuracy:.2f} %",
        f"differs from one device by {proof.relative_diff:.1e} of the largest output",
        f"sent {found.bytes.sum():,} bytes, {'exactly as' if as_predicted else 'NOT as'} predicted",
        f"{found.seconds:.2f} s, of which devices waited {', '.join(f'{seconds:.2f}' for seconds in found.waited)} s",
    ]
    if estimated is not None:
        lines.append(f"with such devices and links {estimated:.2f} s by estimate")
    return Outcome(result, "\n".join(lines), verified=as_predicted and proof.ok)
