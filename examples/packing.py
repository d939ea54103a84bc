"""Tensors in a container: all of them, one of them, as CSR, with rounded values."""

import torch

from secateur.store.packed import PackOptions, open_packed, pack, unpack

weight = torch.randn(512, 512)
tensors = {"weight": torch.where(weight.abs() > 1.6, weight, 0.0), "bias": torch.randn(512)}

pack(tensors, "tensors.sct")
assert all(torch.equal(tensor, tensors[name]) for name, tensor in unpack("tensors.sct").items())

with open_packed("tensors.sct") as packed:  # reads the bytes of this tensor alone
    print(packed.names, packed.record("weight").encoding, packed.csr("weight").layout)

pack(tensors, "rounded.sct", options=PackOptions(values="int8"))
