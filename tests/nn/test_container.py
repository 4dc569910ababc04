"""Containers: PyTorch's behaviour, side by side."""

from collections import OrderedDict

import pytest

import gradloom as gl
from gradloom import nn

torch = pytest.importorskip("torch")


def both(make):
    return make(nn), make(torch.nn)


SEQUENTIAL = [
    lambda n, s: s.append(n.Tanh()),
    lambda n, s: s.extend([n.Tanh(), n.ReLU()]),
    lambda n, s: s.insert(1, n.Tanh()),
    lambda n, s: s.insert(-1, n.Tanh()),
    lambda n, s: s.pop(0) and s,
    lambda n, s: s.pop(-1) and s,
    lambda n, s: s[1:],
    lambda n, s: s[::2],
    lambda n, s: s[-1],
    lambda n, s: s + n.Sequential(n.Tanh()),
    lambda n, s: s * 2,
    lambda n, s: s.__delitem__(slice(0, 2)) or s,
    lambda n, s: s.__delitem__(-1) or s,
    lambda n, s: s.__setitem__(0, n.Tanh()) or s,
    lambda n, s: s.__iadd__(n.Sequential(n.Tanh())),
]


@pytest.mark.parametrize("do", SEQUENTIAL)
def test_sequential(do):
    a, b = both(lambda n: do(n, n.Sequential(n.Linear(2, 2), n.ReLU(), n.Linear(2, 3, bias=False))))
    assert repr(a) == repr(b)
    assert list(a.state_dict()) == list(b.state_dict())


def test_sequential_of_names():
    a, b = both(lambda n: n.Sequential(OrderedDict([("x", n.Linear(2, 2)), ("y", n.ReLU())])))
    assert repr(a) == repr(b) and a.x is a[0] and len(a) == 2
    assert repr(a[:1]) == repr(b[:1])
    assert a(gl.ones(1, 2)).shape == (1, 2)
    for index in (2, -3):
        with pytest.raises(IndexError, match=f"index {index} is out of range"):
            a[index]


LISTS = [
    lambda n, s: s,
    lambda n, s: s.append(n.Linear(2, 2)),
    lambda n, s: s.insert(0, n.Tanh()) or s,
    lambda n, s: s.pop(1) and s,
    lambda n, s: s[1:],
    lambda n, s: s.__add__([n.Tanh()]),
    lambda n, s: s.__delitem__(slice(1, None)) or s,
    lambda n, s: s.__delitem__(0) or s,
    lambda n, s: s.__setitem__(-1, n.Tanh()) or s,
    lambda n, s: s[0:0],
]


@pytest.mark.parametrize("do", LISTS)
def test_module_list(do):
    a, b = both(lambda n: do(n, n.ModuleList([n.Linear(2, 2), n.Linear(2, 2), n.Sequential(n.ReLU())])))
    assert repr(a) == repr(b)
    assert list(a.state_dict()) == list(b.state_dict())
    assert len(a) == len(b)


def test_module_dict():
    def make(n):
        d = n.ModuleDict({"a": n.Linear(1, 1), "b": n.ReLU()})
        d["c"] = n.Tanh()
        d.update([["d", n.Linear(1, 2)]])
        d.update(n.ModuleDict({"e": n.ReLU()}))
        d.pop("b")
        del d["e"]
        return d

    a, b = both(make)
    assert repr(a) == repr(b) and list(a) == list(b) and "c" in a and len(a) == 3
    assert list(a.state_dict()) == list(b.state_dict())
    a.clear()
    assert not len(a)


def test_parameter_list():
    plist = nn.ParameterList([gl.ones(2), nn.Parameter(gl.zeros(1)), "text"])
    plist.append(gl.ones(3))
    assert [k for k, _ in plist.named_parameters()] == ["0", "1", "3"]
    assert isinstance(plist[0], nn.Parameter) and plist[2] == "text" and len(plist) == 4
    assert [len(p) for p in plist[:2]] == [2, 1]
    assert list(plist.state_dict()) == list(
        torch.nn.ParameterList([torch.ones(2), torch.ones(1), "text", torch.ones(3)]).state_dict()
    )
    with pytest.raises(IndexError):
        plist[4]


def test_parameter_dict():
    a, b = gl.ones(2), nn.Parameter(gl.zeros(3))
    d = nn.ParameterDict({"z": a, "b": b, "n": 5})
    assert list(d) == ["b", "n", "z"] and d["b"] is b and isinstance(d["z"], nn.Parameter) and d["n"] == 5
    assert [k for k, _ in d.named_parameters()] == ["b", "z"] and list(d.state_dict()) == ["b", "z"]
    assert list(nn.ParameterDict(OrderedDict(z=a, b=b))) == ["z", "b"]
    assert "z" in d and "y" not in d and len(d) == 3 and d.get("y", 7) == 7
    assert list(reversed(d)) == ["z", "n", "b"] and dict(d.items())["b"] is b and next(iter(d.values())) is b
    assert d.setdefault("y", gl.ones(1)) is d["y"] and d.setdefault("b") is b
    c = d.copy()
    assert c["b"] is b and c is not d
    assert d.pop("n") == 5 and d.popitem()[0] == "y" and list(d) == ["b", "z"]
    d["b"] = gl.ones(1)
    assert isinstance(d["b"], nn.Parameter)
    assert list(d | nn.ParameterDict({"q": a})) == ["b", "z", "q"] and list({"q": a} | nn.ParameterDict({"b": b})) == [
        "q",
        "b",
    ]
    d |= {"r": a}
    assert list(d.fromkeys(["k"], 1).items()) == [("k", 1)] and "r" in d
    assert repr(nn.ParameterDict({"a": a, "n": 1})) == (
        "ParameterDict(\n  (a): Parameter containing: [gradloom.float32 of size 2]\n  (n): Object of type: int\n)"
    )
    d.clear()
    assert len(d) == 0 and not list(d.parameters())
    for wrong, text in (
        (1, "iterable of key/value pairs"),
        ([("a", 1, 2)], "has length 3; 2 is required"),
        ([1], "should be Iterable"),
    ):
        with pytest.raises((TypeError, ValueError), match=text):
            nn.ParameterDict(wrong)
    with pytest.raises(TypeError, match="a key of a ParameterDict is a string, not int"):
        d[1] = a
    with pytest.raises(RuntimeError, match="should not be called"):
        d(1)
