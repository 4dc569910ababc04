"""The one tree walker: nested containers as a flat list of leaves and a structure.

Containers are dict (with its subclasses, whose class is kept), list, tuple, namedtuples and registered types; None is a
container without leaves; everything else, other subclasses of list and tuple (torch.Size) included, is a leaf.

Order of dicts: leaves come in insertion order, and the order is part of the structure. A structure is a cache key and
says which leaf is which, so two that are equal must have their leaves in the same order. Where trees are matched with
each other (`map`, `flatten_up_to`), dicts are matched by key, whatever their order and class.
"""

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, final

from .errors import OptionError, ShapeError, explain

__all__ = ["TreeDef", "flatten", "flatten_up_to", "map", "paths", "register", "unflatten"]

_map = map  # the builtin, which the public name shadows

IsLeaf = Callable[[Any], bool]
# The structure of a node is (class, aux, (structures of its children)), that of a leaf None: plain tuples, so hash and
# == run in C.
Spec = tuple[type, Any, tuple[Any, ...]] | None


@final
class TreeDef:
    """The structure of a tree: hashable, and equal only if classes, keys and the order of leaves are.

    Example:
        >>> _, treedef = flatten({"w": 1.0, "b": [2.0, None]})
        >>> treedef
        TreeDef({'w': *, 'b': [*, None]}, 2 leaves)
    """

    __slots__ = ("_hash", "num_leaves", "spec")

    def __init__(self, spec: Spec, num_leaves: int):
        self.spec = spec
        self.num_leaves = num_leaves
        self._hash: int | None = None

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, TreeDef) and self.spec == other.spec

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self.spec)
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return TreeDef, (self.spec, self.num_leaves)  # without the hash, which is another in another process

    def __repr__(self) -> str:
        return f"TreeDef({_show(self.spec)}, {self.num_leaves} leaves)"


class _Kind(NamedTuple):
    """How a class of containers is opened, rebuilt, and how its children are named."""

    flatten: Callable[[Any], tuple[Iterable[Any], Any]]
    unflatten: Callable[[type, Any, list[Any]], Any]
    names: Callable[[Any, int], Iterable[Any]]


def _indices(aux: Any, count: int) -> Iterable[Any]:
    return range(count)


_DICT = _Kind(
    lambda x: (x.values(), tuple(x)),
    lambda cls, keys, children: cls(zip(keys, children, strict=True)),
    lambda keys, count: keys,
)
_DICT_SUBCLASS = _DICT._replace(unflatten=lambda cls, keys, children: cls(_DICT.unflatten(dict, keys, children)))
_DEFAULT_DICT = _Kind(
    lambda x: (x.values(), (x.default_factory, *x)),
    lambda cls, aux, children: cls(aux[0], zip(aux[1:], children, strict=True)),
    lambda aux, count: aux[1:],
)
_SEQUENCE = _Kind(lambda x: (x, None), lambda cls, aux, children: cls(children), _indices)
_NAMEDTUPLE = _Kind(lambda x: (x, x._fields), lambda cls, aux, children: cls(*children), lambda aux, count: aux)
_NONE = _Kind(lambda x: ((), None), lambda cls, aux, children: None, _indices)

_REGISTERED: dict[type, _Kind] = {dict: _DICT, list: _SEQUENCE, tuple: _SEQUENCE, type(None): _NONE}
# The kind of each class met so far (None: a leaf). A cache of `_find_kind`, emptied when a class is registered.
_kinds: dict[type, _Kind | None] = dict(_REGISTERED)


def _find_kind(cls: type) -> _Kind | None:
    kind = _REGISTERED.get(cls)
    if kind is None:
        if issubclass(cls, collections.defaultdict):
            kind = _DEFAULT_DICT
        elif issubclass(cls, dict):
            kind = _DICT_SUBCLASS
        elif issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_make"):
            kind = _NAMEDTUPLE
    _kinds[cls] = kind
    return kind


def _kind_of(cls: type) -> _Kind | None:
    try:
        return _kinds[cls]
    except KeyError:
        return _find_kind(cls)


def register(
    cls: type,
    flatten: Callable[[Any], tuple[Iterable[Any], Any]],
    unflatten: Callable[[Any, list[Any]], Any],
    names: Callable[[Any], Sequence[Any]] | None = None,
) -> None:
    """Makes a class (not its subclasses) a container. Meant for import time.

    Subclasses of dict need it only if `cls(mapping)` does not rebuild them.

    Args:
        cls: The class.
        flatten: object -> (children, aux); aux is hashable and says all but the children.
        unflatten: (aux, children) -> object.
        names: aux -> the children's names in paths; their indices by default.

    Raises:
        OptionError: If the class is a container already.

    Example:
        >>> class Pair:
        ...     def __init__(self, a, b):
        ...         self.a, self.b = a, b
        >>> register(Pair, lambda p: ((p.a, p.b), None), lambda aux, children: Pair(*children), lambda aux: ("a", "b"))
        >>> paths({"x": Pair(1, 2)})
        [('x.a', 1), ('x.b', 2)]
    """
    if cls in _REGISTERED:
        raise OptionError(explain("a container class is registered once", given=f"{cls.__qualname__} again"))
    named = _indices if names is None else (lambda aux, count: names(aux))
    _REGISTERED[cls] = _Kind(flatten, lambda cls, aux, children: unflatten(aux, children), named)
    _kinds.clear()
    _kinds.update(_REGISTERED)


def flatten(tree: Any, is_leaf: IsLeaf | None = None) -> tuple[list[Any], TreeDef]:
    """Takes a tree apart.

    Args:
        tree: Nested containers.
        is_leaf: Asked of every node, container or not; where true, the node is a leaf and not opened.

    Returns:
        (leaves, structure), for `unflatten`.

    Example:
        >>> flatten({"b": 1, "a": (2, None, [3])})[0]
        [1, 2, 3]
    """
    leaves: list[Any] = []
    spec = _flatten(tree, leaves, is_leaf)
    return leaves, TreeDef(spec, len(leaves))


def _flatten(x: Any, leaves: list[Any], is_leaf: IsLeaf | None) -> Spec:
    cls = type(x)
    kind = _kind_of(cls)
    if kind is None or (is_leaf is not None and is_leaf(x)):
        leaves.append(x)
        return None
    children, aux = kind.flatten(x)
    return cls, aux, tuple([_flatten(child, leaves, is_leaf) for child in children])


def unflatten(treedef: TreeDef, leaves: Iterable[Any]) -> Any:
    """Builds the tree of this structure from its leaves, in the order of `flatten`.

    Raises:
        ShapeError: If the number of leaves is not the structure's.

    Example:
        >>> leaves, treedef = flatten({"b": 1, "a": (2, None)})
        >>> unflatten(treedef, [10, 20])
        {'b': 10, 'a': (20, None)}
    """
    leaves = leaves if isinstance(leaves, (list, tuple)) else list(leaves)
    if len(leaves) != treedef.num_leaves:
        expected = f"{treedef.num_leaves} leaves"
        raise ShapeError(explain("the leaves do not fit the tree", expected=expected, given=len(leaves), where=treedef))
    return _unflatten(treedef.spec, iter(leaves))


def _unflatten(spec: Spec, leaves: Iterator[Any]) -> Any:
    if spec is None:
        return next(leaves)
    cls, aux, children = spec
    kind = _kind_of(cls)
    assert kind is not None
    return kind.unflatten(cls, aux, [_unflatten(child, leaves) for child in children])


def flatten_up_to(treedef: TreeDef, tree: Any) -> list[Any]:
    """The parts of a tree (leaves or containers) that stand where a structure has its leaves, in that structure's
    order.

    Dicts are matched by key, whatever their order and class; every other class must be the same.

    Raises:
        ShapeError: If the tree is different above the leaves; names the path.

    Example:
        >>> _, treedef = flatten({"w": 0, "b": 0})
        >>> flatten_up_to(treedef, {"b": {"m": 1}, "w": {"m": 2}})
        [{'m': 2}, {'m': 1}]
    """
    parts: list[Any] = []
    _flatten_up_to(treedef.spec, tree, parts, ())
    return parts


def _flatten_up_to(spec: Spec, x: Any, parts: list[Any], path: tuple[Any, ...]) -> None:
    if spec is None:
        parts.append(x)
        return
    cls, aux, specs = spec
    kind = _kind_of(cls)
    assert kind is not None
    names = tuple(kind.names(aux, len(specs)))
    if kind in _BY_KEY and _kind_of(type(x)) in _BY_KEY:
        if len(x) != len(names) or not all(name in x for name in names):
            missing, extra = [n for n in names if n not in x], [n for n in x if n not in names]
            raise _mismatch(path, f"the keys {list(names)}", f"missing {missing}, unknown {extra}")
        children = [x[name] for name in names]
    elif type(x) is not cls:
        raise _mismatch(path, "None" if cls is type(None) else cls.__name__, "None" if x is None else type(x).__name__)
    else:
        opened, given_aux = kind.flatten(x)
        children = list(opened)
        if len(children) != len(specs):
            raise _mismatch(path, f"{cls.__name__} of {len(specs)}", f"{cls.__name__} of {len(children)}")
        if given_aux != aux:
            raise _mismatch(path, f"{cls.__name__} with {aux}", f"{cls.__name__} with {given_aux}")
    for name, child_spec, child in zip(names, specs, children, strict=True):
        if child_spec is None:
            parts.append(child)
        else:
            _flatten_up_to(child_spec, child, parts, (*path, name))


_BY_KEY = (_DICT, _DICT_SUBCLASS, _DEFAULT_DICT)


def _mismatch(path: tuple[Any, ...], expected: str, given: str) -> ShapeError:
    where = _join(path) or "the root"
    return ShapeError(explain("the trees differ in structure", expected=expected, given=given, where=where))


def map(f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf | None = None) -> Any:
    """Applies f to every leaf, and gives a tree like the first.

    Args:
        f: Called with a leaf of the first tree and what the other trees have at its place (which may be a container, or
            None).
        tree: The tree that gives the structure.
        *rest: Trees of that structure (dicts may have another order or class).
        is_leaf: As in `flatten`, for the first tree.

    Raises:
        ShapeError: If another tree's structure differs; names the path.

    Example:
        >>> map(lambda p, g: p - g, {"w": 3, "b": [4]}, {"b": [1], "w": 2})
        {'w': 1, 'b': [3]}
    """
    leaves, treedef = flatten(tree, is_leaf)
    columns = [flatten_up_to(treedef, other) for other in rest]
    return _unflatten(treedef.spec, iter([f(*row) for row in zip(leaves, *columns, strict=True)]))


def paths(tree: Any, is_leaf: IsLeaf | None = None) -> list[tuple[str, Any]]:
    """The leaves with their paths: keys and indices joined by dots as they are, "" for the root.

    Example:
        >>> paths({"a": [{"b": 1}, 2]})
        [('a.0.b', 1), ('a.1', 2)]
    """
    found: list[tuple[str, Any]] = []
    _paths(tree, (), found, is_leaf)
    return found


def _paths(x: Any, path: tuple[Any, ...], found: list[tuple[str, Any]], is_leaf: IsLeaf | None) -> None:
    kind = _kind_of(type(x))
    if kind is None or (is_leaf is not None and is_leaf(x)):
        found.append((_join(path), x))
        return
    opened, aux = kind.flatten(x)
    children = list(opened)
    for name, child in zip(kind.names(aux, len(children)), children, strict=True):
        _paths(child, (*path, name), found, is_leaf)


def _join(path: tuple[Any, ...]) -> str:
    return ".".join(_map(str, path))


def _show(spec: Spec) -> str:
    if spec is None:
        return "*"
    cls, aux, specs = spec
    kind = _kind_of(cls)
    if kind is _NONE or kind is None:
        return "None"
    shown = [_show(child) for child in specs]
    if cls is list:
        return f"[{', '.join(shown)}]"
    if cls is tuple:
        return f"({', '.join(shown)}{',' if len(shown) == 1 else ''})"
    named = ", ".join(f"{name!r}: {child}" for name, child in zip(kind.names(aux, len(specs)), shown, strict=True))
    return f"{'' if cls is dict else cls.__name__}{{{named}}}"
