"""Lets a torchvision that was built for CUDA import beside a CPU torch: import this first.

Such a torchvision fails at import because its compiled operators do not load. Declaring the two that it looks up at
import is enough for the networks of torchvision, timm and transformers; the operators themselves stay unusable.
"""

from importlib.util import find_spec
from pathlib import Path

import torch


def _mismatched() -> bool:
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None or torch.version.cuda is not None:
        return False
    return "+cu" in Path(spec.origin).with_name("version.py").read_text()


LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
if _mismatched():
    LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
