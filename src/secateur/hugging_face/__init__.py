"""Networks of Hugging Face's transformers: sizes that their own configuration can say, so that `from_pretrained` loads
what was pruned. Nothing here knows an architecture; what a number of a configuration does is measured."""

from secateur.hugging_face.adoption import adopt_config, take_over_config
from secateur.hugging_face.describing import config_of, describe, described, is_transformers_model
from secateur.hugging_face.ties import Tied, tie_to_config

__all__ = [
    "Tied",
    "adopt_config",
    "config_of",
    "describe",
    "described",
    "is_transformers_model",
    "take_over_config",
    "tie_to_config",
]
