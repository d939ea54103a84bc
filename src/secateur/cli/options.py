"""Options that several verbs share, one small dataclass per subject; a verb inherits those that it needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from typer import Argument, Option


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every verb takes."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "coerce_numbers_to_str": True}

    seed: Annotated[int, Option(help="Seed of everything random.")] = 0
    device: Annotated[str, Option(help="Where the model runs: cpu, cuda, cuda:1, ...")] = "cpu"
    threads: Annotated[int | None, Option(help="CPU threads; torch decides when not given.")] = None
    recipe: Annotated[Path | None, Option(metavar="FILE.yaml", help="Values for these options; options win.")] = None
    json: Annotated[bool, Option("--json", help="Print exactly one JSON object on stdout.")] = False


@dataclass(frozen=True, kw_only=True)
class ModelOptions(Common):
    """Which network."""

    model: Annotated[
        str | None,
        Argument(
            metavar="MODEL",
            help="A built-in name (secateur list models), torchvision:NAME, timm:NAME, hf:DIR, nas:SEED, "
            "package.module:factory, a folder that Secateur saved, or the container that it was packed into.",
        ),
    ] = None
    factory: Annotated[
        str | None, Option(metavar="package.module:factory", help="Builds the original of a saved folder.")
    ] = None
    weights: Annotated[Path | None, Option(metavar="FILE.safetensors", help="Weights to load.")] = None
    input_shape: Annotated[str | None, Option(metavar="C,H,W", help="Shape of one image.")] = None
    num_classes: Annotated[int | None, Option(help="Classes of the model; those of --data when not given.")] = None


@dataclass(frozen=True, kw_only=True)
class DataOptions(Common):
    """Which images, or which text."""

    data: Annotated[
        str | None,
        Option(
            metavar="SPEC", help="Images: digits, cifar10, folder:DIR, csv:FILE, ...; for language models text:PATH."
        ),
    ] = None
    limit: Annotated[
        int | None, Option(help="Read at most so many images (sequences of text) of a split, drawn with --seed.")
    ] = None
    sequence_length: Annotated[
        int | None, Option(help="Tokens of a sequence of text; 2048, or what the model takes, when not given.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class OutOptions(Common):
    """Where the result goes."""

    out: Annotated[Path | None, Option(metavar="DIR", help="Folder for the result, written whole or not at all.")] = (
        None
    )


@dataclass(frozen=True, kw_only=True)
class SelectorOptions(Common):
    """Which parts of the network."""

    ignore: Annotated[
        list[str], Option(metavar="SELECTOR", help="Leave whole: a module, re:PATTERN, or module type; repeatable.")
    ] = field(default_factory=list)
    targets: Annotated[list[str], Option(metavar="SELECTOR", help="Cut these alone; may be repeated.")] = field(
        default_factory=list
    )


@dataclass(frozen=True, kw_only=True)
class CutOptions(SelectorOptions):
    """How much goes, and how that is decided."""

    budget: Annotated[
        list[str],
        Option(metavar="UNIT=VALUE", help="What the result may cost, e.g. macs=0.5 or sparsity=0.9."),
    ] = field(default_factory=list)
    criterion: Annotated[
        str, Option(help="How channels are scored (secateur list criteria); auto: second-order with --data, else l2.")
    ] = "auto"
    allocator: Annotated[
        str, Option(help="How the budget is spread (secateur list allocators); auto: what goes with the criterion.")
    ] = "auto"
    merge: Annotated[str, Option(help="How coupled layers agree: score, and, or.")] = "score"
    share: Annotated[
        list[str],
        Option(
            metavar="NAME=SHARE",
            help="What a layer gives, for --allocator adaptive and some others; or `spectral`, or sensitivity.json.",
        ),
    ] = field(default_factory=list)
    round_to: Annotated[
        str, Option(metavar="N", help="Kept counts are multiples of this; or `auto`: those at which the time falls.")
    ] = "1"
    profile: Annotated[
        str | None,
        Option(metavar="DEVICE", help="Round for a kind of device: cpu, tensor-core-int8, npu-32, ..."),
    ] = None
    calibration: Annotated[
        int | None,
        Option(help="Training examples for what looks at data: 1024 images or 128 sequences of text when not given."),
    ] = None
    min_keep: Annotated[int, Option(help="Channels that every layer keeps at least.")] = 1
    max_remove_ratio: Annotated[float, Option(help="Share of each layer's channels that may go at most.")] = 1.0
    tie: Annotated[
        str,
        Option(help="Networks of transformers: cut to sizes that their config can say: auto (if free), config, none."),
    ] = "auto"
    recover: Annotated[
        str,
        Option(
            help="How the rest makes up for what goes, without training. Channels: refit, joint, none; auto is all of "
            "it, with --data; fold needs none; tune weights inputs, recalibrate measures BatchNorms. "
            "Single weights: second-order."
        ),
    ] = "auto"
    granularity: Annotated[
        list[str],
        Option(
            metavar="KIND",
            help="Cut these kinds alone: channels, heads, head_width, blocks, ...; repeatable. Or single weights, "
            "which become zero: element, 2:4 (any N:M), block:4x1 (any RxC), kernel, row, column.",
        ),
    ] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class TeacherOptions(Common):
    """Whom to learn from, beside the labels."""

    distill: Annotated[
        str | None,
        Option(
            metavar="DIR|FILE",
            help="Learn from a teacher: a folder that Secateur saved (the dense network), another MODEL, or weights "
            "(FILE.safetensors) of MODEL before pruning.",
        ),
    ] = None
    distill_alpha: Annotated[
        float, Option(help="Weight of the teacher's class scores, 0..1; the labels' is the rest.")
    ] = 0.5
    distill_temperature: Annotated[float, Option(help="By which both networks' scores are divided.")] = 4.0
    distill_features: Annotated[
        float, Option(help="Weight of the difference between the outputs of residual blocks; 0 for none.")
    ] = 0.0
    unlabelled: Annotated[
        str | None,
        Option(metavar="SPEC", help="Train on these images instead (as --data), by the teacher alone, without labels."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ArithmeticOptions(Common):
    """In which numbers, and in which order in memory, a network trains."""

    precision: Annotated[str, Option(help="Of forward and backward in training: fp32, bf16 or fp16.")] = "fp32"
    channels_last: Annotated[
        bool, Option("--channels-last", help="Convolve with channels innermost in memory: faster on most devices.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(ModelOptions, DataOptions, OutOptions, TeacherOptions, ArithmeticOptions):
    """How to train."""

    epochs: Annotated[int, Option(help="Rounds through the training images.")] = 10
    lr: Annotated[float, Option(help="Largest learning rate.")] = 0.05
    batch_size: Annotated[int, Option(help="Images per step, of all processes together.")] = 64
    schedule: Annotated[str, Option(help="Learning rate over time: one-cycle, cosine, step or constant.")] = "one-cycle"
    optimizer: Annotated[str, Option(help="sgd or adamw.")] = "sgd"
    momentum: Annotated[float, Option(help="Of sgd.")] = 0.9
    weight_decay: Annotated[float, Option(help="L2 penalty on the weights.")] = 5e-4
    augment: Annotated[bool, Option("--augment", help="Shift images at random, and mirror them where that fits.")] = (
        False
    )
    shift: Annotated[
        int | None, Option(metavar="PIXELS", help="By how much --augment shifts at most; an eighth of the image.")
    ] = None
    label_smoothing: Annotated[float, Option(help="Share of each label that is spread over all classes.")] = 0.0
    class_weights: Annotated[
        str, Option(help="balanced: classes weigh alike in the loss, however many images each has; or none.")
    ] = "none"
    mixup: Annotated[float, Option(help="Mix images in pairs by Beta(MIXUP, MIXUP); 0 for none.")] = 0.0
    ema: Annotated[float, Option(help="Decay of a moving average of the weights, which is saved; 0 for none.")] = 0.0
    accumulate: Annotated[int, Option(help="Parts in which each batch goes through, to save memory.")] = 1
    early_stopping: Annotated[
        int | None, Option(metavar="EPOCHS", help="Stop when so many epochs were no better; save the best.")
    ] = None
    validation: Annotated[
        float | None,
        Option(metavar="SHARE", help="Share of the training images to validate on; 0.1 with --early-stopping."),
    ] = None
    max_steps: Annotated[int | None, Option(help="Stop after so many steps.")] = None
    method: Annotated[
        list[str],
        Option(
            metavar="NAME[:KEY=VALUE,...]",
            help="Prune while training, e.g. agp:sparsity=0.9 or admm:macs=0.5; repeatable (secateur list methods).",
        ),
    ] = field(default_factory=list)
    checkpoint_dir: Annotated[Path | None, Option(metavar="DIR", help="Resume from here after an interruption.")] = None
    log: Annotated[
        Path | None,
        Option("--log", "--log-file", metavar="FILE.jsonl", help="Write a line of JSON per epoch."),
    ] = None  # torchrun takes `--log` for an abbreviation of its own options, wherever it stands
    tensorboard: Annotated[Path | None, Option(metavar="DIR", help="Write curves for TensorBoard.")] = None


def number_or_name(text: str) -> int | str:
    """What `--round-to` means: a multiple, a device profile, or `auto`."""
    return int(text) if text.isdecimal() else text
