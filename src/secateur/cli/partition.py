"""`secateur partition`: a network taken apart for several devices, and made to need less between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from typer import Option

from secateur.cli.options import DataOptions, ModelOptions, OutOptions
from secateur.cli.outcome import Outcome

if TYPE_CHECKING:
    from torch import nn

    from secateur.cli.opening import Opened, Target
    from secateur.data import ImageSet
    from secateur.partition import Split, Topology
    from secateur.partition.by_hand import Given
    from secateur.spec import Verification

CALIBRATION_BATCH = 128
STRATEGY = "filters"
MODEL = "model"
"""Folder inside the result that holds the network as a whole."""


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions, DataOptions, OutOptions):
    """Options of `partition`."""

    devices: Annotated[int | None, Option(metavar="N", help="So many devices, all alike.")] = None
    topology: Annotated[
        Path | None, Option(metavar="FILE.yaml", help="Devices and links: speeds, memory, bandwidth, missing links.")
    ] = None
    like: Annotated[
        Path | None,
        Option(metavar="DIR", help="Owners of channels of an earlier partition; and its devices and links."),
    ] = None
    owners: Annotated[
        Path | None,
        Option(
            metavar="FILE.yaml",
            help="Who owns what, by hand: an axis or a module, and its device, or a list of one for each channel.",
        ),
    ] = None
    strategy: Annotated[
        str,
        Option(
            help="filters: of every layer a share of the channels; layers: whole layers; auto: shares of channels that "
            "belong together (needs --data)."
        ),
    ] = STRATEGY
    budget: Annotated[
        list[str],
        Option(
            metavar="UNIT=VALUE",
            help="Prune, to this share of the bytes (bytes=0.4), so many bytes of a sample (link_bytes=100000), this "
            "share of its time (latency=0.5), or so many milliseconds (latency_ms=20), by estimate.",
        ),
    ] = field(default_factory=list[str])
    recover: Annotated[str, Option(help="How the rest makes up for what goes: joint, refit, none.")] = "joint"
    calibration: Annotated[int, Option(help="Training images for auto, and for the budget.")] = 1024
    batch: Annotated[int, Option(help="Samples that go through the devices at a time.")] = 16


def run(options: Options) -> Outcome:
    """Take a network apart for several devices, and prune it so that they need to say less to each other."""
    import numpy as np
    import torch
    from torch.utils._pytree import tree_map

    from secateur.cli.opening import look_up
    from secateur.cli.prune import as_record
    from secateur.partition.folder import demand_new
    from secateur.partition.pruning import Recover
    from secateur.spec import BudgetError, DataError, SecateurError
    from secateur.store import is_safe

    if options.device != "cpu":
        raise SecateurError(f"--device {options.device}: the parts of a network run on CPUs; leave it out")
    if options.batch < 1 or options.calibration < 1:
        raise BudgetError(f"--batch {options.batch} --calibration {options.calibration}: give at least 1")
    if options.recover not in get_args(Recover):
        raise BudgetError(f"unknown --recover {options.recover}; expected {', '.join(get_args(Recover))}")
    budget = _parsed(options.budget)
    if options.data is None and (budget or options.strategy == "auto"):
        raise DataError("--budget and --strategy auto look at data: name some with --data (secateur list data)")
    if options.out is not None:
        demand_new(options.out)
    target = look_up(options)
    images = None if options.data is None else target.images(options, "train")
    opened = target.build(images)
    opened.model.cpu()  # where devices compute, too
    inputs = tree_map(lambda tensor: torch.cat([tensor.cpu()] * options.batch), opened.inputs)
    split = _taken_apart(opened, inputs, options, images)
    model = opened.model
    record: dict[str, Any] = {"model": target.name, **_described(split, model)}
    lines = [_matrix(record["bytes"], "before" if budget else "bytes a sample")]
    if budget and images is not None:
        model, pruned = _pruned(split, opened, budget, options, target, images)
        record |= pruned | {"after": _described(split, model)}
        lines += [_stages(pruned["stages"]), _matrix(record["after"]["bytes"], "after")]
    proof = split.verify(model, inputs)
    record["verification"] = as_record(proof)
    found = record.get("after") or record
    if "seconds_by_rate" in found:
        lines += [_seconds(found["seconds"]), _rates(record, record.get("after"))]
    else:
        stranded = int(np.array(found["bytes"])[split.topology.missing].sum())
        lines.append(
            f"{stranded:,} of these bytes have no link to cross, so there is no time to tell; --budget prunes what "
            "would need one, --owners moves channels"
        )
    lines.append(proof.said())
    out = options.out
    if out is not None:
        _save(split, model, out, options, opened, record, proof)
        factory = "" if is_safe(target.name) else f" --factory {target.name}"
        lines.append(f"saved to {out}; secateur run-split {out} --data ...{factory} runs it")
    return Outcome({**record, "out": None if out is None else str(out)}, "\n\n".join(lines), verified=proof.ok)


def _parsed(texts: Sequence[str]) -> dict[str, float]:
    from secateur.partition.budget import by_unit
    from secateur.spec import BudgetError

    found: dict[str, float] = {}
    for text in texts:
        unit, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            raise BudgetError(
                f"--budget {text}: expected bytes=0.4, a share of what crosses, link_bytes=100000 for a sample, "
                "latency=0.5, a share of the time of a sample, or latency_ms=20"
            ) from None
        if unit in found:
            raise BudgetError(f"--budget {unit} is given twice; give the one that is meant")
        found[unit] = number
    return by_unit(found) if found else {}


def _taken_apart(opened: Opened, inputs: Any, options: Options, images: ImageSet | None) -> Split:
    from secateur.partition import partition

    needed = images if options.strategy == "auto" else None
    data = None if needed is None else list(_calibration(needed, options).batches(CALIBRATION_BATCH))
    topology, owners = _devices(options)
    strategy: Any = options.strategy
    return partition(opened.model, inputs, topology, strategy=strategy, owners=owners, data=data, seed=options.seed)


def _devices(options: Options) -> tuple[Topology, Given | None]:
    """Devices and links, and who owns what where that is said."""
    from secateur.partition import Topology
    from secateur.partition.by_hand import read_owners
    from secateur.partition.folder import read_record
    from secateur.spec import SecateurError

    if options.like is not None and (options.owners is not None or options.strategy != STRATEGY):
        raise SecateurError("--like DIR says who owns what; drop --owners and --strategy, or take --topology instead")
    like = None if options.like is None else read_record(options.like)
    owners = like.owners if like is not None else None if options.owners is None else read_owners(options.owners)
    if options.topology is not None:
        topology = Topology.read(options.topology)
    elif like is not None:
        topology = like.topology
    elif options.devices is not None:
        topology = Topology.alike(options.devices)
    else:
        raise SecateurError("between which devices? Name them: --devices N, --topology FILE.yaml or --like DIR")
    if like is not None and like.topology.home != topology.home:
        raise SecateurError(
            f"the home device of {options.like} is {like.topology.home}, and here {topology.home}: who owns what would "
            "not fit; give the same home"
        )
    if options.devices not in (None, topology.devices):
        raise SecateurError(f"--devices {options.devices}, but the topology has {topology.devices}")
    return topology, owners


def _calibration(images: ImageSet, options: Options) -> ImageSet:
    return images.subset(min(options.calibration, len(images)), options.seed)


def _pruned(
    split: Split, opened: Opened, budget: Mapping[str, float], options: Options, target: Target, images: ImageSet
) -> tuple[nn.Module, dict[str, Any]]:
    from secateur.partition import prune_crossings
    from secateur.train import evaluate

    test = target.images(options, "test")
    data = list(_calibration(images, options).batches(CALIBRATION_BATCH))
    recover: Any = options.recover
    found = prune_crossings(
        opened.model,
        split,
        budget,
        data,
        recover=recover,
        evaluate=lambda model: evaluate(model, test)["accuracy"],
        seed=options.seed,
    )
    return found.model, {
        "bytes_before": found.bytes_before,
        "bytes_after": found.bytes_after,
        "stages": dict(found.stages),
    }


def _described(split: Split, model: nn.Module) -> dict[str, Any]:
    from secateur.partition.timing import by_rate, estimate
    from secateur.partition.traffic import find_traffic

    structure = split.arrangement, split.needs(model), split.topology
    crossing = find_traffic(*structure[:2]).bytes // split.arrangement.samples
    times = estimate(*structure, samples=1)
    seconds = {"compute": times.compute.tolist(), "one_device": times.alone}
    if crossing[split.topology.missing].any():  # which cannot run
        return {"bytes": crossing.tolist(), "seconds": seconds}
    return {
        "bytes": crossing.tolist(),
        "seconds": {**seconds, "transfer": times.transfer.tolist(), "critical_path": times.critical},
        "seconds_by_rate": dict(by_rate(*structure)),
    }


def _matrix(crossing: Sequence[Sequence[int]], title: str) -> str:
    total = sum(map(sum, crossing))
    width = max(9, len(f"{total:,}") + 2)
    head = f"{title:<16}" + "".join(f"{f'to {device}':>{width}}" for device in range(len(crossing)))
    rows = [
        f"{f'from {sender}':<16}" + "".join(f"{value:>{width},}" for value in row)
        for sender, row in enumerate(crossing)
    ]
    return "\n".join([head, *rows, f"{'total':<16}{total:>{width},}"])


def _stages(stages: Mapping[str, float]) -> str:
    return "\n".join(f"{stage:<16}accuracy {100 * accuracy:.2f} %" for stage, accuracy in stages.items())


def _seconds(seconds: Mapping[str, Any]) -> str:
    busiest, links = max(seconds["compute"]), sum(map(sum, seconds["transfer"]))
    return (
        f"a sample by itself takes {1e3 * seconds['critical_path']:.3g} ms by estimate: the busiest device computes "
        f"for {1e3 * busiest:.3g} ms, links carry for {1e3 * links:.3g} ms in all; one device takes "
        f"{1e3 * seconds['one_device']:.3g} ms for the same arithmetic"
    )


def _rates(before: Mapping[str, Any], after: Mapping[str, Any] | None) -> str:
    """Of the network as it was and as it is, where it can run, and of one device that has it as it was."""
    told = {"ms a sample" if after is None else "before, ms": before, "after, ms": after or {}}
    found = {title: one["seconds_by_rate"] for title, one in told.items() if "seconds_by_rate" in one}
    rates = next(iter(found.values()))
    found["one device, ms"] = dict.fromkeys(rates, before["seconds"]["one_device"])
    rows = {"links, Mbit/s": [f"{rate:g}" for rate in rates]}
    rows |= {title: [f"{1e3 * seconds:.3g}" for seconds in of.values()] for title, of in found.items()}
    return "\n".join(f"{title:<16}{''.join(f'{cell:>9}' for cell in cells)}" for title, cells in rows.items())


def _save(
    split: Split,
    model: nn.Module,
    out: Path,
    options: Options,
    opened: Opened,
    record: Mapping[str, Any],
    proof: Verification,
) -> None:
    """The parts, and the network as a whole beside them, which can be trained on."""
    from secateur.cli.saving import save
    from secateur.partition.folder import demand_new
    from secateur.spec.files import in_one_piece

    strategy = options.strategy if options.like is None else f"like {options.like}"
    stages = [{"stage": stage, "accuracy": accuracy} for stage, accuracy in record.get("stages", {}).items()]
    demand_new(out)
    with in_one_piece(out) as folder:
        split.save(
            folder,
            model,
            {"model": str(record["model"]), "strategy": strategy, "budget": ", ".join(options.budget) or None},
        )
        save(
            "partition",
            options,
            model,
            out=folder / MODEL,
            source=opened.source,
            before=_metrics(
                {key: record[key] for key in ("bytes", "seconds", "seconds_by_rate") if key in record}, stages[:1]
            ),
            after=_metrics(record.get("after", {}), stages[-1:]),
            verification=proof,
            stages=stages,
        )


def _metrics(described: Mapping[str, Any], stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What crosses, also in all, and the accuracy of a stage where it was measured."""
    found = dict(described)
    if described:
        found["link_bytes"] = sum(map(sum, described["bytes"]))
    if stages:
        found["accuracy"] = stages[-1]["accuracy"]
    return found
