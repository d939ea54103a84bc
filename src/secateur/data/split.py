"""A fixed split into train and test for sets that have none."""

from __future__ import annotations

import numpy as np

from secateur.data.source import Split

TEST_SHARE = 0.2


def stratified(labels: np.ndarray, split: Split) -> np.ndarray:
    """Indices of one split, ascending: of each class a fifth (at least one) is for testing, always the same ones."""
    generator = np.random.default_rng(0)
    chosen: list[np.ndarray] = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        test_count = max(1, round(TEST_SHARE * len(members)))
        chosen.append(members[:test_count] if split == "test" else members[test_count:])
    return np.sort(np.concatenate(chosen))
