"""The laws of the algebra of axes."""

from __future__ import annotations

from random import Random

import pytest

from secateur.spec import Pin
from secateur.structure.algebra import (
    ONE,
    Misfit,
    atom,
    atoms,
    concat,
    cut,
    factors,
    find,
    merge,
    parts,
    pin,
    split,
    unify,
)

PIN = Pin("test", "held by a test")


def _sizes(nodes):
    return [find(node).size for node in nodes]


@pytest.mark.parametrize("seed", range(50))
def test_split_then_merge_is_the_identity(seed):
    rng = Random(seed)
    sizes = [rng.choice([1, 2, 3, 4]) for _ in range(rng.randint(2, 4))]
    whole = atom(2 * 3 * 4 * 5)
    total = 1
    for size in sizes:
        total *= size
    node = atom(total) if total > 1 else ONE
    made = split(node, sizes)
    assert _sizes(made) == sizes and merge(made).size == total
    assert [find(x) for x in factors(merge(made))] == [find(x) for x in factors(node)]
    assert find(whole) is whole


@pytest.mark.parametrize(("first", "second", "factors_"), [
    ((6, 4), (2, 12), [2, 3, 4]),
    ((4, 6), (4, 2, 3), [4, 2, 3]),
    ((12,), (3, 4), [3, 4]),
    ((2, 6), (4, 3), [2, 2, 3]),
])  # fmt: skip
def test_two_splits_are_refined_to_common_factors(first, second, factors_):
    node = atom(24 if 24 in (first[0] * first[-1], first[0]) else 12)
    one, two = split(node, first), split(node, second)
    assert _sizes(factors(node)) == factors_
    assert [find(x) for x in factors(merge(one))] == [find(x) for x in factors(merge(two))]


def test_factors_that_do_not_divide_are_a_misfit():
    node = atom(36)
    split(node, [4, 9])
    with pytest.raises(Misfit):
        split(node, [6, 6])


def test_unify_demands_equal_sizes():
    with pytest.raises(Misfit, match="3 cannot be one of 4"):
        unify(atom(3), atom(4))


@pytest.mark.parametrize("seed", range(50))
def test_unify_is_an_equivalence(seed):
    rng = Random(seed)
    nodes = [atom(5) for _ in range(8)]
    classes = list(range(8))
    for _ in range(6):
        a, b = rng.randrange(8), rng.randrange(8)
        unify(nodes[a], nodes[b])
        classes = [classes[a] if c == classes[b] else c for c in classes]
    for a in range(8):
        for b in range(8):
            assert (find(nodes[a]) is find(nodes[b])) == (classes[a] == classes[b])


def test_a_refinement_is_seen_by_every_dimension_that_mentions_the_axis():
    a, b = atom(6), atom(6)
    whole = concat([a, atom(4)])
    unify(a, b)
    heads, width = split(b, [2, 3])
    assert [find(x) for x in atoms(whole)][:2] == [find(heads), find(width)]


def test_parts_are_aligned_by_cutting():
    node = atom(10)
    cut(node, [4, 6])
    cut(node, [7, 3])
    assert _sizes(parts(node)) == [4, 3, 3]


def test_cut_keeps_the_order_of_parts_and_pins_single_ones():
    before, inside, after = cut(atom(9), [0, 1, 8])
    assert before is ONE and inside is ONE and find(after).size == 8
    node = atom(3)
    cut(node, [1, 1, 1])
    assert all(part.pin is not None for part in atoms(node))


def test_a_product_meets_a_concatenation():
    heads, width = atom(6), atom(4)
    qkv = concat([atom(8), atom(8), atom(8)])
    unify(merge([heads, width]), qkv)
    assert _sizes(parts(heads)) == [2, 2, 2]
    for part in parts(qkv):
        assert find(list(factors(part))[-1]) is find(width)


def test_parts_that_do_not_hold_whole_factors_are_a_misfit():
    with pytest.raises(Misfit, match="do not fit"):
        unify(merge([atom(3), atom(4)]), concat([atom(5), atom(7)]))


def test_a_concatenation_of_single_rows_pins_the_outer_factor():
    outer, inner = atom(3), atom(4)
    rows = [atom(4) for _ in range(3)]
    unify(merge([outer, inner]), concat(rows))
    assert find(outer).pin is not None and all(find(row) is find(inner) for row in rows)


@pytest.mark.parametrize("refine_first", [True, False])
def test_pins_go_where_the_axis_goes(refine_first):
    a, b = atom(12), atom(12)
    if refine_first:
        split(a, [3, 4])
    pin(b, PIN)
    unify(a, b)
    if not refine_first:
        split(a, [3, 4])
    assert all(part.pin == PIN for part in atoms(a)) and all(part.pin == PIN for part in atoms(b))


def test_the_first_reason_stands():
    node = atom(3, PIN)
    pin(node, Pin("other", "later"))
    assert node.pin == PIN


def test_size_one_carries_no_axis():
    assert atom(1) is ONE and merge([]) is ONE
    node = atom(5)
    assert merge([ONE, node, ONE]) is node and list(atoms(ONE)) == []
    assert find(concat([ONE, node]).parts[0]).pin is not None
