"""Methods that prune while `train` and `finetune` train: from what `--method` asked to what the user is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from secateur.cli.opening import Opened
from secateur.cli.options import TrainingOptions
from secateur.data import ImageSet
from secateur.spec import SecateurError, StoreError
from secateur.spec.registry import Registry
from secateur.structure import trace
from secateur.train import TrainConfig
from secateur.train.batches import Batches
from secateur.train.method import Method
from secateur.train.methods import METHODS, Ended, Made, Maker, Run, demand_one_end, read_method


def known_methods() -> Registry[type[Maker]]:
    """All that have a name, those of other packages of ours among them."""
    import secateur.partition  # noqa: F401  (adds to METHODS)

    return METHODS


def read_methods(texts: Sequence[str]) -> list[Maker]:
    """What `--method` asked for; see `read_method`."""
    if texts:
        known_methods()
    return [read_method(text) for text in texts]


def made_for(
    makers: Sequence[Maker], texts: Sequence[str], opened: Opened, config: TrainConfig, images: ImageSet
) -> list[Made]:
    """The methods of this run, from what was read of their texts; raises a SecateurError that names the one at fault,
    before any training."""
    if not makers:
        return []
    run = Run(
        opened.model, opened.inputs, trace(opened.model, opened.inputs), config, Batches(images, config).per_epoch
    )
    methods = [_made(maker, run, text) for maker, text in zip(makers, texts, strict=True)]
    demand_one_end(methods, config)
    return methods


def _made(maker: Maker, run: Run, text: str) -> Made:
    try:
        return maker.make(run)
    except SecateurError as error:
        raise type(error)(f"--method {text}: {error}") from error


def in_training(methods: Sequence[Made], texts: Sequence[str]) -> list[Method]:
    """What has a hand in the steps, and what checkpoints are to know."""
    acting = [one.method for one in methods] + [one.penalty for one in methods if one.penalty is not None]
    return [*acting, *([_AsAsked(texts)] if methods else [])]


class _AsAsked:
    """Has no hand in training: it keeps a checkpoint from being gone on with by methods with other options."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = list(texts)

    def step(self, take: Callable[[], None]) -> None:
        take()

    def state_dict(self) -> dict[str, Any]:
        return {"texts": self._texts}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        if state["texts"] != self._texts:
            raise StoreError(
                f"the checkpoint belongs to a run with --method {' '.join(state['texts'])}, got "
                f"{' '.join(self._texts)}; give the same methods, another --checkpoint-dir, or delete it"
            )


def told(methods: Sequence[Made], ended: Ended, options: TrainingOptions) -> list[str]:
    """What became of the network: the proof, the folder, and what cuts what regularisers prepared."""
    lines = [f"saved to {options.out}"]
    proof = ended.verification
    if proof is not None:
        lines.insert(0, proof.said())
    elif methods:
        then = methods[0].then.replace("{out}", str(options.out)).replace("{data}", str(options.data))
        lines.append(f"nothing was cut yet; this does it: {then}" if not methods[0].decides else f"next: {then}")
    return lines
