"""The tokenizer of a language model: `tokenizer.json` beside its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.models.extras import import_extra
from secateur.models.hf_source import class_and_config
from secateur.spec import DataError, ModelError

FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
"""What transformers keeps of a tokenizer in a folder."""
LENGTH = 2048
"""Tokens of a sequence, where the model takes as many and nobody asks for others."""


@dataclass(frozen=True)
class Tokenizer:
    """From text to what a language model reads."""

    tokenizer: Any
    vocab_size: int
    """Tokens that the model knows."""
    longest: int | None
    """Tokens of a sequence that the model takes; None where it has no limit."""
    folder: Path

    def encode(self, text: str) -> list[int]:
        """Numbers of the tokens, special ones at the ends where the tokenizer adds them. Raises DataError for a token
        that the model does not know."""
        ids: list[int] = self.tokenizer.encode(text).ids
        unknown = max(ids, default=0)
        if unknown >= self.vocab_size:
            raise DataError(
                f"{self.folder / FILES[0]} gives token {unknown}, the model knows 0..{self.vocab_size - 1}; put the "
                "tokenizer there that the model was trained with"
            )
        return ids

    def length(self, asked: int | None = None) -> int:
        """Tokens of a sequence: as many as asked for, else `LENGTH`, or fewer where the model takes no more. Raises
        DataError for more than it takes."""
        most = self.longest or max(LENGTH, asked or 0)
        if asked is not None and asked > most:
            raise DataError(
                f"sequences of {asked} tokens: the model of {self.folder} takes {most}; ask for at most these"
            )
        return asked or min(LENGTH, most)


def load_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of `hf:DIR`, a causal language model; no code of the folder runs.

    Raises ModelError for another model, DataError where the folder holds no tokenizer or a broken one.
    """
    prefix, _, rest = name.partition(":")
    if prefix != "hf":
        raise ModelError(f"{name} reads no text; give a language model of transformers, hf:DIR")
    model_class, config = class_and_config(rest)
    if model_class.__name__ not in _generating():
        raise ModelError(f"{name} is a {model_class.__name__}, no causal language model; text is for these alone")
    folder = _folder(rest)
    longest = getattr(config, "max_position_embeddings", None)
    return Tokenizer(_read(folder), config.get_text_config().vocab_size, longest, folder)


def _generating() -> set[str]:
    names = import_extra("transformers.models.auto.modeling_auto", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES")
    return set(names.values())


def _read(folder: Path) -> Any:
    path = folder / FILES[0]
    if not path.is_file():
        raise DataError(
            f"{folder} holds no {FILES[0]}, and without its tokenizer nobody knows what the model reads (bytes are not "
            f"guessed); save it there: AutoTokenizer.from_pretrained(NAME).save_pretrained({str(folder)!r})"
        )
    try:
        return import_extra("tokenizers", "Tokenizer").from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise DataError(f"{path} is no usable tokenizer: {error}") from error


def tokenizer_files(name: str) -> dict[str, str]:
    """What a tokenizer beside the model is made of, text by file name, for a model that reads the same; none without
    one."""
    prefix, _, rest = name.partition(":")
    folder = _folder(rest)
    return {
        file: (folder / file).read_text(encoding="utf-8")
        for file in FILES
        if prefix == "hf" and (folder / file).is_file()
    }


def _folder(rest: str) -> Path:
    return Path(rest) if Path(rest).is_dir() else Path(rest).parent
