"""Indexing against PyTorch: reading, writing, gradients, errors."""

import numpy as np
import pytest

from gradloom.errors import IndexOutOfRangeError
from gradloom.tensor import creation

torch = pytest.importorskip("torch")

KEYS = [
    0, -1, slice(1, 3), slice(None, None, 2), slice(-2, None), None, Ellipsis, (0, 1), (Ellipsis, 0), (slice(None), 1),
    (0, Ellipsis, 2),
    (None, 0, None), (slice(None), None, slice(1, 2)), (1, slice(None), slice(None, 2)), (slice(5, 9),), (Ellipsis,
    None),
    [0, 2], [-1, 0, 0], (slice(None), [0, 1]), ([0, 1], [1, 2]), ([0, 1], slice(None), [1, 2]), ([[0, 1], [2, 0]],),
    (Ellipsis, [0, 1]),
    np.array([2, 0]), (0, np.array([1, 1])), [True, False, True], (slice(None), [True, False, True]), np.int64(1),
    range(2),
    (np.array([[0], [1]]), np.array([0, 1])), (0, [0, 1], slice(None)), (slice(1, None), [0, 2], 1), [],
]  # fmt: skip


def pair(key, make_mine, make_theirs):
    """The key with its arrays as Tensors of both sides."""

    def convert(k, make):
        return make(k) if isinstance(k, np.ndarray) else k

    if isinstance(key, tuple):
        return tuple(convert(k, make_mine) for k in key), tuple(convert(k, make_theirs) for k in key)
    return convert(key, make_mine), convert(key, make_theirs)


def data():
    return np.arange(27, dtype=np.float32).reshape(3, 3, 3)


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_read_and_gradient(key):
    mine, theirs = pair(key, creation.tensor, torch.tensor)
    a, b = creation.tensor(data(), requires_grad=True), torch.tensor(data(), requires_grad=True)
    x, y = a[mine], b[theirs]
    assert tuple(x.shape) == tuple(y.shape)
    assert x.tolist() == y.tolist()
    (x * x).sum().backward()
    (y * y).sum().backward()
    assert a.grad.tolist() == b.grad.tolist()


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_write_and_gradient(key):
    mine, theirs = pair(key, creation.tensor, torch.tensor)
    a, b = creation.tensor(data(), requires_grad=True), torch.tensor(data(), requires_grad=True)
    v, w = creation.tensor(2.5, requires_grad=True), torch.tensor(2.5, requires_grad=True)
    x, y = a * 1, b * 1
    x[mine] = v * 2
    y[theirs] = w * 2
    assert x.tolist() == y.tolist()
    (x * x).sum().backward()
    (y * y).sum().backward()
    assert a.grad.tolist() == b.grad.tolist()
    assert float(v.grad if v.grad is not None else 0) == float(w.grad)


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_aliasing(key):
    mine, theirs = pair(key, creation.tensor, torch.tensor)
    a, b = creation.tensor(data()), torch.tensor(data())
    x, y = a[mine], b[theirs]
    a.add_(1)
    b.add_(1)
    assert x.tolist() == y.tolist()
    x.mul_(2)
    y.mul_(2)
    assert a.tolist() == b.tolist()


@pytest.mark.parametrize(
    "key", [0, slice(0, 2), (0, [1, 2]), [0, 2], [True, False, True], (Ellipsis, None, 1)], ids=repr
)
def test_on_engines(backend, key):
    a, b = creation.tensor(data()), torch.tensor(data())
    assert a[key].tolist() == b[key].tolist()
    a[key] = -1
    b[key] = -1
    assert a.tolist() == b.tolist()


def test_masks():
    a, b = creation.tensor(data()), torch.tensor(data())
    assert a[a > 10].tolist() == b[b > 10].tolist()
    a[a > 10] = 0
    b[b > 10] = 0
    assert a.tolist() == b.tolist()
    mask = np.array([[True, False, True], [False, False, True], [True, True, False]])
    assert a[creation.tensor(mask)].tolist() == b[torch.tensor(mask)].tolist()
    assert a[:, creation.tensor(mask)].tolist() == b[:, torch.tensor(mask)].tolist()


def test_written_values_take_the_dtype():
    x, y = creation.zeros(3, dtype="int64"), torch.zeros(3, dtype=torch.int64)
    x[0], y[0] = 2.7, 2.7
    x[1], y[1] = creation.tensor(1.9), torch.tensor(1.9)
    assert x.tolist() == y.tolist()
    z = creation.zeros(2, 2)
    z[0] = [1.0, 2.0]
    z[:, 1] = np.array([5, 6])
    assert z.tolist() == [[1.0, 5.0], [0.0, 6.0]]


def test_an_index_of_one_element_selects_a_view():
    x = creation.zeros(3)
    x[creation.tensor(1)].add_(4)
    assert x.tolist() == [0.0, 4.0, 0.0]


ERRORS = [
    (3, "index 3 is out of bounds for dimension 0 with size 3"),
    ((0, -4), "index -4 is out of bounds for dimension 1 with size 3"),
    ((0, 0, 0, 0), "too many indices for tensor of dimension 3"),
    ([5], "index 5 is out of bounds for dimension 0 with size 3"),
    ((slice(None), [0, 9]), "index 9 is out of bounds for dimension 1 with size 3"),
    ([True, False],
    r"The shape of the mask \[2\] at index 0 does not match the shape of the indexed tensor \[3, 3, 3\] at index 0"),
    ("a",
    r"only integers, slices \(`:`\), ellipsis \(`...`\), None and long or bool tensors are valid indices \(got str\)"),
    (1.5, r"only integers, .* are valid indices \(got float\)"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "text"), ERRORS, ids=repr)
def test_errors(backend, key, text):
    x = creation.tensor(data())
    with pytest.raises(IndexOutOfRangeError, match=text):
        x[key]
    with pytest.raises(IndexOutOfRangeError, match=text):
        x[key] = 0.0
    if not isinstance(key, str):
        with pytest.raises(IndexError):
            torch.tensor(data())[key]


def test_other_errors():
    x = creation.tensor(data())
    with pytest.raises(ValueError, match="step must be greater than zero"):
        x[::-1]
    with pytest.raises(IndexOutOfRangeError, match="long, int, byte or bool tensors"):
        x[creation.tensor([1.0])]
    with pytest.raises(IndexOutOfRangeError, match="single ellipsis"):
        x[..., ...]
    with pytest.raises(TypeError, match="iteration over a 0-d tensor"):
        iter(creation.tensor(1.0))
