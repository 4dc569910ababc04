"""The tree walker: round trips, structures as cache keys, matching by key, and what errors say."""

import collections
import copy
import operator
import pickle
from typing import NamedTuple

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from gradloom import tree
from gradloom.errors import OptionError, ShapeError


class Point(NamedTuple):
    x: object
    y: object


class Parameters(dict):
    """A plain subclass."""


class Pair:
    def __init__(self, a, b, label):
        self.a, self.b, self.label = a, b, label

    def __eq__(self, other):
        return isinstance(other, Pair) and (self.a, self.b, self.label) == (other.a, other.b, other.label)


tree.register(Pair, lambda p: ((p.a, p.b), p.label), lambda label, c: Pair(*c, label), lambda label: ("a", "b"))


def containers(children):
    dicts = st.dictionaries(st.text(max_size=3) | st.integers(0, 9), children, max_size=4)
    return st.one_of(
        st.lists(children, max_size=4),
        st.lists(children, max_size=3).map(tuple),
        st.builds(Point, children, children),
        st.builds(Pair, children, children, st.sampled_from(["p", "q"])),
        dicts,
        dicts.map(Parameters),
        dicts.map(collections.OrderedDict),
        dicts.map(lambda d: collections.defaultdict(list, d)),
    )


TREES = st.recursive(st.none() | st.integers() | st.text(max_size=2), containers, max_leaves=12)


def same_classes(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same_classes(a[k], b[k]) for k in a)
    return not isinstance(a, (list, tuple)) or all(map(same_classes, a, b))


@given(TREES)
def test_round_trip(t):
    leaves, treedef = tree.flatten(t)
    again = tree.unflatten(treedef, leaves)
    assert again == t and same_classes(again, t)
    assert treedef.num_leaves == len(leaves) and None not in leaves
    assert [leaf for _, leaf in tree.paths(t)] == leaves == tree.flatten_up_to(treedef, t)
    assert repr(treedef).endswith(f"{len(leaves)} leaves)")


@given(TREES)
def test_structures_are_keys(t):
    leaves, treedef = tree.flatten(t)
    other = tree.flatten(tree.unflatten(treedef, [object() for _ in leaves]))[1]
    assert other == treedef and hash(other) == hash(treedef) and {treedef: 1}[other] == 1
    for twin in (pickle.loads(pickle.dumps(treedef)), copy.deepcopy(treedef)):
        assert twin == treedef and hash(twin) == hash(treedef)
    assert tree.flatten([t])[1] != treedef


@given(TREES)
def test_map_keeps_the_structure(t):
    mapped = tree.map(lambda leaf: (str(leaf),), t)  # a container as a result is a leaf's value
    assert tree.flatten_up_to(tree.flatten(t)[1], mapped) == [(str(leaf),) for leaf in tree.flatten(t)[0]]
    assert tree.map(lambda a, b, c: (a == b == c) and a, t, t, t) == tree.map(lambda a: a, t) == t


def test_order_of_a_dict_is_part_of_the_structure():
    # Equal structures must mean equal order of leaves: otherwise a cached program would swap them.
    ab, ba = {"a": 1, "b": 2}, {"b": 2, "a": 1}
    assert tree.flatten(ba)[0] == [2, 1]
    assert tree.flatten(ab)[1] != tree.flatten(ba)[1]
    assert tree.map(operator.sub, ab, ba) == {"a": 0, "b": 0}
    assert tree.flatten_up_to(tree.flatten(ab)[1], ba) == [1, 2]


def test_classes_of_dicts():
    default = collections.defaultdict(list, a=1)
    again = tree.map(lambda x: x + 1, default)
    assert again == {"a": 2} and again["new"] == []
    mixed = tree.map(operator.add, Parameters(w=1), {"w": 2})
    assert type(mixed) is Parameters and mixed == {"w": 3}
    assert tree.flatten({"w": 1})[1] != tree.flatten(Parameters(w=1))[1]


def test_what_is_a_leaf():
    class Shape(tuple):
        """Not opened: the class may not take what comes back."""

    array = np.ones(3)
    leaves = tree.flatten([array, Shape((1, 2)), "text", {1, 2}, None])[0]
    assert leaves[0] is array and leaves[1:] == [(1, 2), "text", {1, 2}]
    assert tree.flatten(None) == ([], tree.flatten(None)[1])
    assert tree.paths(5) == [("", 5)]


def test_is_leaf():
    t = {"a": (1, 2), "b": [None]}
    assert tree.flatten(t, is_leaf=lambda x: isinstance(x, tuple) or x is None)[0] == [(1, 2), None]
    assert tree.map(lambda x, y: (x, y), t, {"a": 7, "b": [8]}, is_leaf=lambda x: isinstance(x, list | tuple)) == {
        "a": ((1, 2), 7),
        "b": ([None], [8]),
    }
    assert tree.paths(t, is_leaf=lambda x: isinstance(x, list)) == [("a.0", 1), ("a.1", 2), ("b", [None])]


def test_paths():
    t = {"a": [Point(1, {"k": 2}), Pair(3, None, "p")], 7: 4}
    assert tree.paths(t) == [("a.0.x", 1), ("a.0.y.k", 2), ("a.1.a", 3), ("7", 4)]


def test_other_trees_may_go_deeper():
    state = {"w": {"m": 1, "v": 2}, "b": None}
    assert tree.map(lambda p, s: (p, s), {"w": 0, "b": 1}, state) == {"w": (0, {"m": 1, "v": 2}), "b": (1, None)}


@pytest.mark.parametrize(
    ("first", "second", "parts"),
    [
        ({"a": [1, 2]}, {"a": [1]}, ["list of 2", "list of 1", "where:    a"]),
        ({"a": [{"x": 1, "y": 2}]}, {"a": [{"x": 1, "z": 2}]}, ["['x', 'y']", "missing ['y'], unknown ['z']", "a.0"]),
        ({"a": {"b": (1,)}}, {"a": {"b": [1]}}, ["expected: tuple", "given:    list", "where:    a.b"]),
        ([1], 3, ["expected: list", "given:    int", "where:    the root"]),
        ([None], [3], ["expected: None", "given:    int", "where:    0"]),
        ([[1]], [None], ["expected: list", "given:    None", "where:    0"]),
        ([Point(1, 2)], [(1, 2)], ["expected: Point", "given:    tuple"]),
        ([Pair(1, 2, "p")], [Pair(1, 2, "q")], ["Pair with p", "Pair with q"]),
        ({"a": 1}, {}, ["missing ['a'], unknown []"]),
    ],
)
def test_mismatches_name_the_path(first, second, parts):
    with pytest.raises(ShapeError) as caught:
        tree.map(lambda a, b: a, first, second)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("leaves", [[1], [1, 2, 3]])
def test_number_of_leaves(leaves):
    with pytest.raises(ShapeError, match=r"expected: 2 leaves\n  given:    " + str(len(leaves))):
        tree.unflatten(tree.flatten([1, 2])[1], leaves)


def test_unflatten_takes_any_iterable():
    assert tree.unflatten(tree.flatten((1, [2]))[1], (x for x in "ab")) == ("a", ["b"])


def test_register():
    class Box:
        def __init__(self, value):
            self.value = value

    box = Box(1)
    assert tree.flatten(box)[0] == [box]  # a leaf until it is registered
    tree.register(Box, lambda b: ((b.value,), None), lambda aux, children: Box(*children))
    assert tree.paths([box]) == [("0.0", 1)]
    assert tree.map(lambda x: x + 1, box).value == 2
    for known in (Box, dict):
        with pytest.raises(OptionError, match=known.__name__):
            tree.register(known, lambda b: ((), None), lambda aux, children: None)
