"""Ways to say which words of an array are stored."""

from secateur.store.packed.encodings.bitmask import Bitmask
from secateur.store.packed.encodings.block import Block
from secateur.store.packed.encodings.csr import Csr
from secateur.store.packed.encodings.delta import Delta
from secateur.store.packed.encodings.dense import Dense
from secateur.store.packed.encodings.encoding import Encoded, Encoding, Layout
from secateur.store.packed.encodings.gaps import Gaps
from secateur.store.packed.encodings.n_of_m import NOfM

ENCODINGS: dict[str, Encoding] = {
    "dense": Dense(),
    "bitmask": Bitmask(),
    "delta": Delta(),
    "gaps": Gaps(),
    "n:m": NOfM(),
    "block": Block(),
    "csr": Csr(),
}

__all__ = ["ENCODINGS", "Encoded", "Encoding", "Layout"]
