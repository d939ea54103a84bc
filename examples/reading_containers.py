"""A reader of containers that knows docs/format.md alone."""

import json
from pathlib import Path

import numpy as np
import torch
import zstandard

from secateur.store.packed import pack


def bits(stream):
    return np.unpackbits(np.frombuffer(stream, np.uint8), bitorder="little")


def read(path):
    file = Path(path).read_bytes()
    at, size = (int.from_bytes(file[place : place + 8], "little") for place in (16, 24))
    manifest = file[at : at + size]
    manifest = json.loads(zstandard.decompress(manifest) if file[12] & 1 else manifest)
    for array in manifest["arrays"]:
        place, streams = array["offset"], {}
        for name in ("positions", "values"):
            stored = array.get(name, {"codec": "raw", "size": 0})
            content = file[place : place + stored["size"]]
            place += stored["size"]
            streams[name] = content if stored["codec"] == "raw" else zstandard.decompress(content)
            if stored["codec"] == "planes":
                streams[name] = np.frombuffer(streams[name], np.uint8).reshape(-1, array["kept"]).T.tobytes()
        member = array["members"][0]
        if "name" not in member or len(array["members"]) > 1:
            continue
        count = int(np.prod(member["shape"]))
        if array["encoding"] == "bitmask":
            kept = np.flatnonzero(bits(streams["positions"])[:count])
        elif array["encoding"] == "gaps":
            k, unary = array["parameters"]["bits"], array["parameters"]["unary_bytes"]
            quotients = np.diff(np.flatnonzero(bits(streams["positions"][:unary])), prepend=-1) - 1
            remainders = bits(streams["positions"][unary:])[: k * array["kept"]].reshape(array["kept"], k) @ (
                1 << np.arange(k)
            )
            kept = np.cumsum((quotients << k) + remainders + 1) - 1
        else:
            continue
        values = np.frombuffer(streams["values"], {"F32": "<f4", "F16": "<f2", "I8": "i1"}[member["dtype"]])
        tensor = np.zeros(count, values.dtype)
        tensor[kept] = values
        yield member["name"], tensor.reshape(member["shape"])


weight = torch.randn(300, 784)
pack({"half": weight * (weight > 0), "few": weight * (weight > 2)}, "read-me.sct")
for name, tensor in read("read-me.sct"):
    print(name, tensor.shape, f"{np.count_nonzero(tensor) / tensor.size:.1%} of the weights are not zero")
