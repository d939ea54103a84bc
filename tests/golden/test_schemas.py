"""Base schemas of named networks; that of vgg9_bn is the one that KETI Pruner users know, key order included."""

from __future__ import annotations

import pytest
from calling import secateur

NETWORKS = [
    ("vgg9_bn", "module."),
    ("resnet20", ""),
    ("torchvision:mobilenet_v2", ""),
    ("torchvision:densenet121", ""),
    ("timm:vit_tiny_patch16_224", ""),
]


@pytest.mark.parametrize(("name", "prefix"), NETWORKS, ids=[name for name, _ in NETWORKS])
def test_base_schema(name, prefix, golden):
    source = name.partition(":")[0]
    if source != name:
        pytest.importorskip("torchvision")
        pytest.importorskip(source)
    found = secateur("inspect", name, "--format", "keti", "--prefix", prefix)
    assert found.code == 0, found.err
    golden(f"{name.replace(':', '-')}.schema.json", found.out)
