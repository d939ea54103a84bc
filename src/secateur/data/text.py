"""`text:PATH`: text as sequences of tokens of one length, which language models read.

L is the length of a sequence, N the number of sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from secateur.data.decode import read_utf8
from secateur.data.images import ImageSet, drawn
from secateur.data.source import DATA, Request, Split
from secateur.data.split import TEST_SHARE
from secateur.spec import DataError

Encode = Callable[[str], Sequence[int]]
"""From text to the numbers of its tokens: what a tokenizer does."""
MAX_TEXT_BYTES = 1 << 28
"""Most text that is read."""


@dataclass(frozen=True)
class TextSet:
    """Sequences of one split, cut from the text one after the other."""

    tokens_NL: Tensor
    """int64."""
    name: str = ""
    """What was opened, for messages."""

    def __len__(self) -> int:
        return len(self.tokens_NL)

    @property
    def length(self) -> int:
        """Tokens of a sequence."""
        return self.tokens_NL.shape[1]

    def subset(self, count: int, seed: int = 0) -> TextSet:
        """`count` sequences drawn without replacement, in their order; raises DataError where there are fewer."""
        if not 0 < count <= len(self):
            raise DataError(
                f"{self.name}: asked for {count} sequences, has {len(self)}; give a number within 1..{len(self)}"
            )
        return replace(self, tokens_NL=self.tokens_NL[drawn(len(self), count, seed)])

    def batches(self, batch_size: int, *, device: str | torch.device = "cpu") -> Iterator[dict[str, Tensor]]:
        """Keyword inputs of a language model: `input_ids` `(B, L)` int64. The last batch may be shorter."""
        for part in self.tokens_NL.split(batch_size):
            yield {"input_ids": part.to(device)}


def open_text(
    path: str | Path, encode: Encode, split: Split, *, length: int, limit: int | None = None, seed: int = 0
) -> TextSet:
    """One split of the text of a file, or of all files below a folder in order of their paths.

    encode: the tokenizer, which sees each file by itself. The tokens of all files are joined and cut into sequences of
    `length`, of which the last fifth (at least one) is for testing. At most `limit` sequences are drawn with `seed`.
    Raises DataError for what is missing, empty, too large, not UTF-8, or too short for a sequence in either split.
    """
    name = f"text:{path}"
    if split not in ("train", "test"):
        raise DataError(f"unknown split {split!r}; expected train or test")
    if length < 2:
        raise DataError(f"{name}: sequences of {length} tokens; at least 2 are needed to predict one from another")
    tokens = [torch.tensor(encode(read_utf8(file)), dtype=torch.int64) for file in _files(Path(path), name)]
    joined = torch.cat(tokens)
    count = len(joined) // length
    if count < 2:
        raise DataError(
            f"{name}: {len(joined)} tokens, needs {2 * length}: one sequence of {length} to learn from and one for "
            "testing; give more text, or shorter sequences"
        )
    sequences = joined[: count * length].reshape(count, length)
    test_count = max(1, round(TEST_SHARE * count))
    chosen = sequences[-test_count:] if split == "test" else sequences[:-test_count]
    found = TextSet(chosen, f"{name} ({split})")
    return found if limit is None or limit >= len(found) else found.subset(limit, seed)


def _files(path: Path, name: str) -> list[Path]:
    if not path.exists():
        raise DataError(f"{name}: no such file or folder")
    if path.is_dir():
        below = (file for file in path.rglob("*") if file.is_file())
        files = sorted(file for file in below if not _is_hidden(file.relative_to(path)))
    else:
        files = [path]
    size = sum(file.stat().st_size for file in files)
    if not size:
        raise DataError(f"{name}: no text there; give a file of text, or a folder with such files")
    if size > MAX_TEXT_BYTES:
        raise DataError(f"{name}: {size:,} bytes of text, more than the {MAX_TEXT_BYTES:,} that are read; give a part")
    return files


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


@DATA.register("text", "text:PATH, a file of UTF-8 text or a folder of such files, for hf:DIR that generates text")
def refuse(request: Request) -> ImageSet:
    """Text is opened by `open_text`, which knows a tokenizer; who asks for images is told so."""
    if request.path is None:
        raise DataError("text: no path given; write text:PATH, a file of text or a folder of such files")
    raise DataError(
        f"{request.name}: text, where images are read; text is for prune and evaluate of a language model (hf:DIR), "
        "and in Python for secateur.data.open_text"
    )
