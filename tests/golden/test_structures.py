"""Structures of named networks as text that a person can review: an axis a line, then where it stands."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from secateur.models import build_model
from secateur.spec import Structure
from secateur.structure import trace

BUILT_IN = {"lenet5": (1, 28, 28), "lenet300": (1, 28, 28), "vgg9_bn": (3, 32, 32), "resnet20": (3, 32, 32)}
TORCHVISION = ("resnet18", "mobilenet_v2", "densenet121", "vit_b_16")
TIMM = ("vit_tiny_patch16_224",)


def shown(structure: Structure) -> str:
    """Name, size, role (a star: cut by default), reason code; then the tensors with the dimension it stands in."""
    lines = []
    for axis in structure.axes:
        role = f"{axis.role}{'*' if axis.chosen else ''}"
        inside = f" within {axis.within}" if axis.within else ""
        held = f" pinned: {axis.pin.code}" if axis.pin else ""
        lines.append(f"{axis.name} {axis.size} {role}{inside}{held}")
        members = [f"{tensor}[{dim}]" for tensor, dim in structure.occurrences(axis.name)]
        lines += [f"    {' '.join(members[start : start + 4])}" for start in range(0, len(members), 4)]
    lines += [f"tie {' '.join(f'{name}/{multiple}' for name, multiple in tie.members)}" for tie in structure.ties]
    lines += [f"note {note}" for note in structure.notes]
    free = sum(axis.pin is None for axis in structure.axes)
    lines.append(f"{free} of {len(structure.axes)} axes free, {structure.prunable_share():.1%} of the parameters")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in(name, golden):
    model = build_model(name, input_shape=BUILT_IN[name])
    model = getattr(model, "model", model)
    golden(f"{name}.txt", shown(trace(model, torch.empty(1, *BUILT_IN[name]))))


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name, golden):
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        model = torchvision.models.get_model(name)
    golden(f"torchvision-{name}.txt", shown(trace(model, torch.empty(1, 3, 224, 224, device="meta"))))


@pytest.mark.skipif(find_spec("torchvision") is None, reason="timm needs torchvision")
@pytest.mark.parametrize("name", TIMM)
def test_timm(name, golden):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        model = timm.create_model(name)
    golden(f"timm-{name}.txt", shown(trace(model, torch.empty(1, 3, 224, 224, device="meta"))))
