"""Learning from a teacher, mostly the dense network before pruning: its class scores, and what its blocks give.

B images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from secateur.spec import ModelError
from secateur.structure.modes import eval_mode
from secateur.train.outputs import logits_of


class Pair(NamedTuple):
    """A module of the student, and the one of the teacher whose output it is to give."""

    student: str
    teacher: str
    kept: Mapping[int, Tensor] = {}
    """Of the teacher's output the positions to give, by dimension, where not all of them are."""


class Distillation:
    """The loss `(1 - alpha) CE + alpha T^2 KL(teacher / T || student / T) + feature_weight * MSE of features`.

        distillation = Distillation(student, teacher, alpha=0.5)
        logits = student(images)
        loss = distillation.loss(logits, distillation.teach(images), F.cross_entropy(logits, labels))

    With `alpha=1` labels have no part in it, so unlabelled images serve; `fit` then reads none. Hinton et al. 2015,
    section 2, with the T^2 that keeps the size of gradients; FitNets (Romero et al. 2015, eq. 3) for the features,
    without its regressor, because blocks of a pruned network mostly keep the shape of their outputs.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        *,
        alpha: float = 0.5,
        temperature: float = 4.0,
        feature_weight: float = 0.0,
        features: Sequence[Pair | tuple[str, str]] = (),
    ) -> None:
        """Attaches hooks to the modules of `features`, which `finish` takes off. `secateur.train.block_features` finds
        such pairs. The MSE is the mean over them, each the mean over the entries of its output.

        Raises ModelError for numbers out of range, features without a weight or the other way round, and names that
        are no modules.
        """
        if not (0 <= alpha <= 1 and temperature > 0 and feature_weight >= 0):
            raise ModelError(
                f"distillation: got alpha={alpha}, temperature={temperature}, feature_weight={feature_weight}; "
                "expected alpha in 0..1, a temperature above 0 and a weight of at least 0"
            )
        if bool(features) != (feature_weight > 0):
            raise ModelError(
                f"distillation: got {len(features)} features and feature_weight={feature_weight}; give both or neither"
            )
        self.alpha = alpha
        self.temperature = temperature
        self.feature_weight = feature_weight
        self.features = tuple(pair if isinstance(pair, Pair) else Pair(*pair) for pair in features)
        self.teacher = teacher
        self._students: dict[str, Tensor] = {}
        self._teachers: dict[str, Tensor] = {}
        self._handles = [
            *_watch(student, [pair.student for pair in self.features], self._students, "student"),
            *_watch(teacher, [pair.teacher for pair in self.features], self._teachers, "teacher"),
        ]

    def teach(self, images_BCHW: Tensor) -> Tensor:
        """The teacher's class scores, `(B, classes)`; in eval mode, without gradients. The student may run before or
        after, on the same images."""
        with torch.no_grad(), eval_mode(self.teacher):
            return logits_of(self.teacher(images_BCHW)).float()

    def loss(self, logits: Tensor, told: Tensor, labelled: Tensor | None = None) -> Tensor:
        """Scores of the student and of the teacher, `(B, classes)`, and the loss on the labels; None where there are
        none, which `alpha=1` alone allows.

        Raises ModelError where shapes of scores or features differ.
        """
        if logits.shape != told.shape:
            raise ModelError(
                f"distillation: the student gives scores of shape {tuple(logits.shape)}, the teacher "
                f"{tuple(told.shape)}; both must know the same classes"
            )
        soft = self.temperature**2 * F.kl_div(
            F.log_softmax(logits.float() / self.temperature, 1),
            F.log_softmax(told.float() / self.temperature, 1),
            reduction="batchmean",
            log_target=True,
        )
        loss = self.alpha * soft
        if self.alpha < 1:
            if labelled is None:
                raise ModelError(f"distillation with alpha={self.alpha} needs the loss on labels; alpha=1 does not")
            loss = loss + (1 - self.alpha) * labelled
        return loss if not self.features else loss + self.feature_weight * self._feature_loss()

    def to(self, device: str | torch.device) -> None:
        """Move the teacher."""
        self.teacher.to(device)

    def settings(self) -> dict[str, Any]:
        """What it was made with, as JSON can say it."""
        names = ("alpha", "temperature", "feature_weight")
        return {name: getattr(self, name) for name in names} | {
            "features": [[pair.student, pair.teacher] for pair in self.features]
        }

    def finish(self) -> None:
        """Take the hooks off both networks."""
        for handle in self._handles:
            handle.remove()

    def _feature_loss(self) -> Tensor:
        losses: list[Tensor] = []
        for own, other, kept in self.features:
            if own not in self._students or other not in self._teachers:
                raise ModelError(f"distillation: {own} or the teacher's {other} did not run; name other features")
            made, wanted = self._students[own], self._teachers[other]
            for dim, positions in kept.items():
                wanted = wanted.index_select(dim, positions.to(wanted.device))
            if made.shape != wanted.shape:
                raise ModelError(
                    f"distillation: {own} gives {tuple(made.shape)}, the teacher's {other} {tuple(wanted.shape)}; "
                    "features need equal shapes"
                )
            losses.append(F.mse_loss(made.float(), wanted.float()))
        self._students.clear()
        self._teachers.clear()
        return torch.stack(losses).mean()


def _watch(model: nn.Module, names: Sequence[str], seen: dict[str, Tensor], whose: str) -> list[RemovableHandle]:
    """Keep what these modules give last, whenever the loss will read it."""
    modules = dict(model.named_modules())
    missing = [name for name in names if name not in modules]
    if missing:
        raise ModelError(f"distillation: the {whose} has no module {', '.join(missing)}")

    def keep(name: str, always: bool) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if always or torch.is_grad_enabled():  # an evaluation in between leaves nothing behind
                seen[name] = feature_of(output)

        return hook

    return [modules[name].register_forward_hook(keep(name, whose == "teacher")) for name in names]


def feature_of(output: Any) -> Tensor:
    """The output of a module, or the first of several; raises ModelError where that is no tensor."""
    found = output[0] if isinstance(output, list | tuple) and output else output
    if not isinstance(found, Tensor):
        raise ModelError(f"distillation: a module gives {type(found).__name__}, expected a tensor; name another")
    return found
