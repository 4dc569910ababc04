"""save and load: what goes in comes out; what is damaged is noticed."""

import collections
import io
import json
import math
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradloom import dtypes
from gradloom.backends.registry import using_backend
from gradloom.errors import DTypeError, FileFormatError, OptionError
from gradloom.tensor import creation
from gradloom.tensor.serialization import load, save
from gradloom.tensor.tensor import Tensor


def same(a, b):
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype is b.dtype and a.shape == b.shape and a.tolist() == b.tolist()
    if isinstance(a, (np.ndarray, np.generic)):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def tree():
    return {
        "epoch": 3,
        "loss": 0.1,
        "best": math.inf,
        "bad": math.nan,
        "name": 'é "quoted"\n\ud800',
        "none": None,
        "flags": (True, False),
        "model": {"0.weight": creation.rand(3, 4), "0.bias": creation.zeros(4, dtype="float64"),
        "": creation.tensor(1)},
        "optimizer": {"state": {0: {"step": 5, "exp_avg": creation.rand(2)}, 1: {}}, "param_groups": [{"lr": 1e-3,
        "betas": (0.9, 0.999)}]},
        "$odd": [{"$tensor": 1}, {"a.b": np.arange(3)}, {"a": {"b": np.arange(2)}}],
        "half": creation.rand(3).half(),
        "bf16": creation.rand(3).bfloat16(),
        "mask": creation.tensor([True, False]),
        "empty": creation.zeros(0, 3),
        "arrays": [np.arange(6, dtype=">i4").reshape(2, 3).astype("int32"), np.array(2.5), np.float32(1.5),
        np.array([1, 2], "uint32"), np.zeros((2, 3))[:, ::2]],
        "long": 2**80,
    }  # fmt: skip


def written(obj):
    buffer = io.BytesIO()
    save(obj, buffer)
    return buffer.getvalue()


def test_round_trip(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    before = tree()
    save(before, path)
    assert same(before, load(path))
    assert same(before, load(str(path)))
    assert same(before, load(io.BytesIO(path.read_bytes())))
    assert os.listdir(tmp_path) == ["checkpoint.safetensors"]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(plain)
def test_round_trip_of_anything(obj):
    assert same(obj, load(io.BytesIO(written(obj))))


@pytest.mark.parametrize("obj", [creation.ones(2), 3, [], {}, None, "x", np.arange(3)], ids=repr)
def test_the_root_may_be_anything(obj):
    assert same(obj, load(io.BytesIO(written(obj))))


def test_on_engines(backend):
    before = {
        "a": creation.rand(2, 3),
        "b": creation.tensor([1, 2]),
        "c": creation.rand(2).bfloat16(),
        "d": creation.rand(2).t(),
    }
    after = load(io.BytesIO(written(before)))
    assert same(before, after)
    assert after["a"].backend == backend
    with using_backend("numpy"):
        assert load(io.BytesIO(written(before)))["a"].backend == "numpy"
    assert load(io.BytesIO(written(before)), backend="torch")["a"].backend == "torch"
    assert load(io.BytesIO(written(before)), map_location="cpu")["a"].device == "cpu"


def test_other_mappings_and_history():
    x = creation.rand(2, requires_grad=True)
    after = load(io.BytesIO(written(collections.OrderedDict(x=x, y=x * 2, z=x[:1]))))
    assert type(after) is dict
    assert not after["x"].requires_grad
    after["x"].add_(1)
    assert same(after["y"], (x * 2).detach())


def test_one_array_is_stored_once():
    x = creation.rand(1000)
    content = written({"a": x, "b": x, "c": x.detach()})
    assert len(content) < 5000
    after = load(io.BytesIO(content))
    after["a"].zero_()
    assert same(after["b"], x)


def test_other_programs_read_it_and_are_read(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "f.safetensors"
    save({"model": {"w": np.arange(4.0), "b": creation.ones(2)}, "n": 1}, path)
    found = safetensors.load_file(path)
    assert found["model.w"].tolist() == [0, 1, 2, 3]
    assert found["model.b"].tolist() == [1, 1]
    safetensors.save_file({"w": np.ones((2, 2), "float32")}, path)
    assert load(path)["w"].tolist() == [[1, 1], [1, 1]]


REFUSED = [
    ({"a": [1, {2: object()}]}, r"(?s)type builtins.object.*obj\['a'\]\[1\]\[2\]"),
    ({"f": print}, r"(?s)builtin_function.*obj\['f'\]"),
    ({"s": {1, 2}}, r"(?s)type builtins.set.*obj\['s'\].*state_dict"),
    ({"b": b"x"}, "type builtins.bytes"),
    ({"c": 1j}, "type builtins.complex"),
    ({("a",): 1}, r"(?s)a key of a dict is a string or an int.*\('a',\) \(tuple\)"),
    ({True: 1}, "a key of a dict is a string or an int"),
    ([np.array(["a"])], r"(?s)cannot save an array of <U1.*obj\[0\]"),
    ([np.zeros(1, "complex64")], "cannot save an array of complex64"),
]


@pytest.mark.parametrize(("obj", "text"), REFUSED, ids=range(len(REFUSED)))
def test_other_types_are_refused(tmp_path, obj, text):
    path = tmp_path / "f"
    with pytest.raises(TypeError, match=text):
        save(obj, path)
    assert os.listdir(tmp_path) == []


def test_a_tree_that_contains_itself_is_refused():
    a = []
    a.append({"a": a})
    with pytest.raises(TypeError, match="contains itself"):
        written(a)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "f"
    save({"a": 1}, path)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save({"a": 2}, path)
    assert load(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["f"]


def test_saving_through_a_link_keeps_the_link(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    save(1, target)
    link.symlink_to(target)
    save(2, link)
    assert link.is_symlink()
    assert load(target) == 2


def small():
    return written({"w": creation.arange(5.0), "i": creation.tensor([1, 2]), "n": 0.25, "t": (1, "x")})


def test_every_cut_is_noticed():
    content = small()
    for n in range(len(content)):
        with pytest.raises(FileFormatError, match=r"cannot load the file") as error:
            load(io.BytesIO(content[:n]))
        assert "do:" in str(error.value)
    with pytest.raises(FileFormatError, match="longer than it says"):
        load(io.BytesIO(content + b"x"))


def test_every_changed_byte_is_noticed():
    content, before = small(), load(io.BytesIO(small()))
    passed = 0
    for i in range(len(content)):
        for flip in (1, 0x20, 0x80):
            changed = bytearray(content)
            changed[i] ^= flip
            try:
                after = load(io.BytesIO(bytes(changed)))
            except FileFormatError:
                continue
            assert same(before, after), f"byte {i} changed the content unnoticed"
            passed += 1
    assert passed < 10  # blanks of the header


def test_foreign_files(tmp_path):
    path = tmp_path / "f"
    for content, text in (
        (b"PK\x03\x04 a zip", "(?s)pickle.*torch.load"),
        (b"\x80\x04 a pickle", "pickle"),
        (b"", "too short"),
        (b"hello, this is a text file", "no safetensors file"),
        (bytes(100), "no safetensors file"),
    ):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match=text) as error:
            load(path)
        assert str(path) in str(error.value)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")


def forged(**entries):
    text = json.dumps(entries).encode()
    return io.BytesIO(len(text).to_bytes(8, "little") + text + bytes(8))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2]},
        {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]},
        [],
    ],
)
def test_forged_entries(entry):
    with pytest.raises(FileFormatError):
        load(forged(w=entry))


def test_errors_of_the_backend_name_the_tensor():
    content = written({"w": creation.zeros(2, dtype="float64")})
    with using_backend("jax"), pytest.raises(DTypeError, match=r"(?s)load: w:.*float64"):
        load(io.BytesIO(content))
    assert load(io.BytesIO(content))["w"].dtype is dtypes.float64
    with pytest.raises(OptionError, match="map_location"):
        load(io.BytesIO(content), map_location={"cuda": "cpu"})
