"""Importance criteria, and the walker that applies them to a structure."""

from secateur.score import criteria
from secateur.score.question import Question
from secateur.score.registry import CRITERIA, Criterion
from secateur.score.statistics import Statistics
from secateur.score.walker import layer_entropies, score

__all__ = ["CRITERIA", "Criterion", "Question", "Statistics", "criteria", "layer_entropies", "score"]
