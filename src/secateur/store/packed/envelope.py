"""Both ends of a container: the header before the arrays, and the manifest behind them."""

from __future__ import annotations

import hashlib
import struct
from functools import cache
from typing import BinaryIO

import zstandard

from secateur.spec import StoreError
from secateur.store.packed.checking import demand_sound
from secateur.store.packed.manifest import Manifest
from secateur.store.packed.streams import TEXT_LEVEL, decompress

MAGIC = b"\x89SCT\r\n\x1a\n"
"""As PNG has it: not text, and damaged by transfers that change line ends."""
VERSION = 1
HEADER = struct.Struct("<8sHHI8s")
"""Magic, version, flags, size of the manifest, the first bytes of its SHA-256."""
HASH_BYTES = 8
COMPRESSED = 1
"""Flag: the manifest is a zstandard frame that refers to `PHRASES`."""
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
"""What manifests are made of; a small one is mostly this."""
FACTOR, EXTRA = 64, 1 << 16
"""A manifest may decompress to so many times its bytes, and so many more."""


def ends(manifest: Manifest, *, entropy: bool) -> tuple[bytes, bytes]:
    """The header, and what stands behind the arrays.

    entropy: compress the manifest where that makes it smaller.
    """
    plain = manifest.to_text().encode()
    made = [(0, plain)]
    if entropy:
        compressed = zstandard.ZstdCompressor(level=TEXT_LEVEL, dict_data=phrases()).compress(plain)
        made += [(COMPRESSED, compressed)] if len(plain) <= _most(len(compressed)) else []
    flags, stored = min(made, key=lambda one: len(one[1]))
    return HEADER.pack(MAGIC, VERSION, flags, len(stored), hash_of_manifest(stored)), stored


def _most(size: int) -> int:
    """Bytes that a manifest of so many compressed ones may have."""
    return FACTOR * size + EXTRA


def hash_of_manifest(stored: bytes) -> bytes:
    return hashlib.sha256(stored).digest()[:HASH_BYTES]


def read_manifest(file: BinaryIO) -> Manifest:
    """The manifest, which fits the file. Raises StoreError."""
    header = file.read(HEADER.size)
    end = file.seek(0, 2)
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise StoreError("this is no container that Secateur packed, or it was damaged on its way")
    _, version, flags, size, digest = HEADER.unpack(header)
    if version != VERSION or flags & ~COMPRESSED:
        raise StoreError(f"version {version} with flags {flags:#x}; this Secateur reads version {VERSION}")
    start = end - size
    if start < HEADER.size:
        raise StoreError(f"its manifest is said to have {size} bytes of {end}; the file is incomplete")
    file.seek(start)
    stored = file.read(size)
    if hash_of_manifest(stored) != digest:
        raise StoreError("its manifest was changed after it was written, or the file is incomplete (its hash differs)")
    text = decompress(stored, most=_most(size), phrases=phrases()) if flags & COMPRESSED else stored
    manifest = Manifest.from_json(text)
    demand_sound(manifest, start - HEADER.size)
    return manifest


@cache
def phrases() -> zstandard.ZstdCompressionDict:
    """What the frame of a manifest refers to."""
    made = zstandard.ZstdCompressionDict(PHRASES, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    made.precompute_compress(level=TEXT_LEVEL)
    return made
