"""`hf:DIR`: a local folder in the layout of Hugging Face, `config.json` with or without safetensors weights; or
`hf:FILE.json`, a configuration alone.

Nothing is downloaded, no code of the folder runs, and pickled weights are refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur.models.extras import import_extra
from secateur.models.inputs import Inputs, generator, image_shape, random_image
from secateur.models.named import Shape
from secateur.models.weights import refuse_nonfinite
from secateur.spec import ModelError

TOKENS = 16
"""Length of the example text."""


def build(name: str, num_classes: int | None, shape: Shape | None) -> nn.Module:
    """The network of the first entry of `architectures`, with the folder's weights or random ones where it has none."""
    config = _config(name)
    if num_classes is not None:
        config.num_labels = num_classes
    model_class = _model_class(name, config)
    if not _has_weights(Path(name)):
        return _from_config(model_class, config)
    model = _with_weights(name, model_class, config)
    refuse_nonfinite(dict(model.named_parameters()), name)
    return model


def _from_config(model_class: Any, config: Any) -> nn.Module:
    """Random weights, in the type that the configuration names."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(config.dtype or default)
    try:
        return model_class(config)
    finally:
        torch.set_default_dtype(default)


def input_shape(name: str) -> Shape | None:
    """The shape of image of a vision model; None for text."""
    config = _config(name)
    return _image_shape(config) if _main_input(name, config) == "pixel_values" else None


def example_inputs(name: str, shape: Shape | None) -> Inputs:
    """`input_ids` and `attention_mask` for text, `pixel_values` for images, both where the model takes both. Keys and
    values for tokens to come are not asked for: they are no outputs that callers rely on."""
    model_class, config = class_and_config(name)
    main = model_class.main_input_name
    if main == "pixel_values":
        return {"pixel_values": random_image(shape or _image_shape(config))}
    if main != "input_ids":
        raise ModelError(f"{name}: the model reads {main!r}, which has no example; pass example inputs of your own")
    inputs = _text(getattr(config, "text_config", config))
    if "use_cache" in signature(model_class.forward).parameters:
        inputs["use_cache"] = False
    if hasattr(config, "vision_config"):
        inputs["pixel_values"] = random_image(shape or _image_shape(config.vision_config))
    return inputs


def _text(config: Any) -> dict[str, Any]:
    length = min(TOKENS, getattr(config, "max_position_embeddings", TOKENS))
    ids = torch.randint(0, config.vocab_size, (1, length), generator=generator())
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = ids.clone()
    return inputs


def _image_shape(config: Any) -> Shape:
    return image_shape(getattr(config, "image_size", 224), getattr(config, "num_channels", 3))


def _main_input(name: str, config: Any) -> str:
    return _model_class(name, config).main_input_name


def _config(name: str) -> Any:
    path = Path(name)
    if not (path.is_file() or (path / "config.json").is_file()):
        raise ModelError(f"hf:{name}: no config.json there; give a local folder (models are never downloaded)")
    auto_config = import_extra("transformers", "AutoConfig")
    try:
        return auto_config.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"hf:{name}: config.json is not usable: {error}") from error


def class_and_config(name: str) -> tuple[Any, Any]:
    """Class of the model, and its configuration; nothing is built."""
    config = _config(name)
    return _model_class(name, config), config


def _model_class(name: str, config: Any) -> Any:
    wanted = getattr(config, "architectures", None)
    if not wanted:
        raise ModelError(f"hf:{name}: config.json names no class under 'architectures'; add one, e.g. [\"BertModel\"]")
    found = import_extra("transformers", wanted[0])
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ModelError(
            f"hf:{name}: the installed transformers has no model {wanted[0]!r}; code in a folder is never run"
        )
    return found


def _has_weights(folder: Path) -> bool:
    if any(folder.glob("*.safetensors")):
        return True
    pickled = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
    if pickled:
        raise ModelError(
            f"hf:{folder}: the weights are pickled ({', '.join(pickled)}) and loading them could run code; "
            "save them again with save_pretrained(..., safe_serialization=True) where you trust them"
        )
    return False


def _with_weights(name: str, model_class: Any, config: Any) -> nn.Module:
    try:
        with quiet():
            model, report = model_class.from_pretrained(
                name,
                config=config,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError) as error:
        hint = "were they saved for another number of classes?"
        raise ModelError(f"hf:{name}: the weights cannot be loaded ({hint}): {error}") from error
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"]))
        raise ModelError(
            f"hf:{name}: the weights lack {missing}; name the class they were saved from in 'architectures'"
        )
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, log lines or warnings of transformers."""
    logging = import_extra("transformers.utils.logging")
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
