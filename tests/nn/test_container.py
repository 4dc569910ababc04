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
