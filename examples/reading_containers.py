"""A reader of containers that knows docs/format.md alone."""

import json
from pathlib import Path

import numpy as np
import torch
import zstandard

from secateur.store.packed import pack

PHRASES = (
    b'{"files":[{"name":"run.json","size":,"sha256":"plan.json""README.md""masks.safetensors","safetensors":'
    b'{"format":"pt"}},{"name":"model.safetensors","size":,"safetensors":{}}],"base_sha256":"'
    b'"file":1,"at":0,"shape":[],"name":"num_batches_tracked","dtype":"U8""F64""F16""I64""BOOL"'
    b'"value_type":"fp16""bf16""int8","scales":{"codec":"zstd","size":},"reference":{"kind":"zeros","of":"base"},'
    b'"encoding":"csr""block""n:m","parameters":{"n":2,"m":4,"inner":1,"rows":"columns":"blocks":},'
    b'"dtype":"BF16","shape":[768,768],"name":"encoder.layer.0.attention.self.query.weight"},'
    b'"dtype":"F32","shape":[512],"name":"features.0.bias"},"name":"classifier.0.weight"},"name":"fc.bias"},'
    b'{"dtype":"F32","shape":[64],"name":"layer1.0.bn1.bias"},'
    b'{"dtype":"F32","shape":[64],"name":"layer1.0.bn1.running_mean"},'
    b'{"dtype":"F32","shape":[64],"name":"layer1.0.bn1.running_var"},'
    b'{"dtype":"F32","shape":[64],"name":"layer1.0.bn1.weight"},'
    b'{"dtype":"F32","shape":[64,64,3,3],"name":"layer1.0.conv1.weight"}],'
    b'"positions":{"codec":"zstd","size":},"parameters":{"bits":2,"unary_bytes":}},'
    b'{"crc32":,"encoding":"gaps","kept":,"values":{"codec":"planes","size":},"members":['
    b'"positions":{"codec":"raw","size":},"parameters":{"bits":4,"codes":}},'
    b'{"crc32":,"encoding":"delta","kept":,"values":{"codec":"zstd","size":},"members":['
    b'{"dtype":"I8","shape":[10,64],"name":"fc.weight"}],"positions":{"codec":"raw","size":}}],"schema_version":1}'
    b'{"files":[{"name":"model.safetensors","size":,"safetensors":{}}],"arrays":['
    b'{"crc32":,"encoding":"bitmask""dense","kept":,"values":{"codec":"zstd","size":},"members":['
    b'{"dtype":"I8","shape":[1024,1024],"name":"weight"}]}],"schema_version":1}'
)


def bits(stream):
    return np.unpackbits(np.frombuffer(stream, np.uint8), bitorder="little")


def read(path):
    file = Path(path).read_bytes()
    manifest = file[-int.from_bytes(file[12:16], "little") :]
    if file[10] & 1:
        phrases = zstandard.ZstdCompressionDict(PHRASES, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        manifest = zstandard.ZstdDecompressor(dict_data=phrases).decompress(manifest)
    place = 24
    for array in json.loads(manifest)["arrays"]:
        stored, contents, member = {}, {}, array["members"][0]
        for name in ("positions", "values", "scales"):
            stored[name] = array.get(name, {"codec": "raw", "size": 0})
            contents[name] = file[place : place + stored[name]["size"]]
            place += stored[name]["size"]
        unlike = array["encoding"] not in ("bitmask", "gaps") or "value_type" in array or "reference" in array
        if unlike or "name" not in member or len(array["members"]) > 1:
            continue
        streams = {}
        for name, content in contents.items():
            streams[name] = content if stored[name]["codec"] == "raw" else zstandard.decompress(content)
            if stored[name]["codec"] == "planes":
                streams[name] = np.frombuffer(streams[name], np.uint8).reshape(-1, array["kept"]).T.tobytes()
        count = int(np.prod(member["shape"]))
        if array["encoding"] == "bitmask":
            kept = np.flatnonzero(bits(streams["positions"])[:count])
        else:
            k, unary = array["parameters"]["bits"], array["parameters"]["unary_bytes"]
            quotients = np.diff(np.flatnonzero(bits(streams["positions"][:unary])), prepend=-1) - 1
            remainders = bits(streams["positions"][unary:])[: k * array["kept"]].reshape(array["kept"], k) @ (
                1 << np.arange(k)
            )
            kept = np.cumsum((quotients << k) + remainders + 1) - 1
        values = np.frombuffer(streams["values"], {"F32": "<f4", "F16": "<f2", "I8": "i1"}[member["dtype"]])
        tensor = np.zeros(count, values.dtype)
        tensor[kept] = values
        yield member["name"], tensor.reshape(member["shape"])


weight = torch.randn(300, 784)
pack({"half": weight * (weight > 0), "few": weight * (weight > 2)}, "read-me.sct")
for name, tensor in read("read-me.sct"):
    print(name, tensor.shape, f"{np.count_nonzero(tensor) / tensor.size:.1%} of the weights are not zero")
