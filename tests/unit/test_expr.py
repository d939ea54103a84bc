"""Expressions against brute force: every position is labelled by hand and looked up."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from secateur.spec.expr import (
    Concat,
    Product,
    axes_of,
    from_json,
    index_along,
    kept_given,
    kept_of,
    parents_needed,
    size_of,
    to_json,
)

SIZES = {"a": 3, "b": 2, "c": 4, "h": 2, "w": 3}


def _labels(expr):
    """For each position, the (axis, index) pairs that it stands for."""
    if isinstance(expr, int):
        return [()] * expr
    if isinstance(expr, str):
        return [((expr, i),) for i in range(SIZES[expr])]
    if isinstance(expr, Concat):
        return [label for part in expr.parts for label in _labels(part)]
    made = [()]
    for part in expr.parts:
        made = [outer + inner for outer in made for inner in _labels(part)]
    return made


def _random_expr(rng, depth=3):
    kind = rng.choice(["axis", "axis", "int", "product", "concat"]) if depth else "axis"
    if kind == "axis":
        return rng.choice(list(SIZES))
    if kind == "int":
        return rng.randint(1, 3)
    parts = tuple(_random_expr(rng, depth - 1) for _ in range(rng.randint(1, 3)))
    return Product(parts) if kind == "product" else Concat(parts)


@pytest.mark.parametrize("seed", range(200))
def test_sizes_positions_and_json_of_random_expressions(seed):
    rng = Random(seed)
    expr = _random_expr(rng)
    labels = _labels(expr)
    assert size_of(expr, SIZES) == len(labels)
    assert from_json(to_json(expr)) == expr
    assert set(axes_of(expr)) >= {axis for label in labels for axis, _ in label}
    kept = {axis: np.array(sorted(rng.sample(range(size), rng.randint(1, size)))) for axis, size in SIZES.items()
            if rng.random() < 0.6}  # fmt: skip
    stays = [n for n, label in enumerate(labels) if all(axis not in kept or i in kept[axis] for axis, i in label)]
    positions = kept_of(expr, kept, SIZES, {})
    if positions is None:
        assert len(stays) == len(labels)
    else:
        assert positions.tolist() == stays


def test_an_axis_may_choose_other_indices_for_each_index_of_its_parent():
    kept = {"h": np.array([0, 1]), "w": np.array([[0, 2], [1, 2]])}
    expr = Concat((Product(("h", "w")), Product((2, "h", "w"))))
    labels = _labels(expr)
    rows = {0: {0, 2}, 1: {1, 2}}
    expected = [n for n, label in enumerate(labels) if dict(label)["w"] in rows[dict(label)["h"]]]
    assert kept_of(expr, kept, SIZES, {"w": "h"}).tolist() == expected


def test_rows_follow_the_parents_that_stay():
    kept = {"h": np.array([1]), "w": np.array([[0], [2]])}
    assert kept_of(Product(("h", "w")), kept, SIZES, {"w": "h"}).tolist() == [5]


def test_a_parent_in_another_dimension_is_named_and_given():
    kept = {"w": np.array([[0, 2], [1, 2]])}
    assert parents_needed("w", kept, {"w": "h"}) == {"h"}
    assert parents_needed(Product(("h", "w")), kept, {"w": "h"}) == set()
    assert kept_given(Product((2, "w")), kept, SIZES, {"w": "h"}, "h", 1).tolist() == [1, 2, 4, 5]


@pytest.mark.parametrize("seed", range(100))
def test_index_along(seed):
    rng = Random(seed)
    expr = Concat((Product(("a", 2, "b")), "c", Product((Concat(("h", 1)), "w"))))
    axis = rng.choice(list(SIZES))
    expected = [dict(label).get(axis, -1) for label in _labels(expr)]
    assert index_along(expr, axis, SIZES).tolist() == expected


@pytest.mark.parametrize("value", [True, None, 1.5, {"sum": []}, {"product": 3}, {"product": [], "concat": []}, [1]])
def test_what_is_no_expression_is_refused(value):
    with pytest.raises(ValueError, match="not a dimension expression"):
        from_json(value)
