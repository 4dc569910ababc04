"""Flat blocks: Numba's kernels on NumPy (graph/fast.py), the loop over chunks, and PyTorch's many small parameters in one array."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import gradloom as gl
from gradloom.dtypes import float32
from gradloom.errors import OptionError
from gradloom.graph import chunks, fast
from gradloom.optim import block as blocks
from gradloom.optim.rules.rule import HOST, RULES

needs_numba = pytest.mark.skipif(not fast.enabled(), reason="pip install 'gradloom[fast]'")


@pytest.fixture(scope="module", autouse=True)
def _folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADLOOM_CACHE", str(tmp_path_factory.mktemp("kernels")))
        yield


@pytest.fixture
def everywhere(monkeypatch):
    """Kernels for updates of any size. Counts their calls."""
    monkeypatch.setattr(fast, "SMALL", 0)
    called = []
    run = fast.Kernel.__call__

    def spy(self, *args, **kwargs):
        called.append(self)
        return run(self, *args, **kwargs)

    monkeypatch.setattr(fast.Kernel, "__call__", spy)
    return called


def adam():
    rule = RULES["adam"]
    options = gl.optim.Adam([gl.ones(1, requires_grad=True)]).param_groups[0]
    return rule, rule.flags(options), rule.scalars(HOST, options, 3)


def parameters(dtype="float32", shapes=((3, 4), (4,), (), (2, 3, 5), (1,))):
    rng = np.random.default_rng(0)
    return [gl.tensor(rng.normal(size=s).astype(dtype), requires_grad=True) for s in shapes]


def make_step(params, optimizer, compiled):
    def step(x):
        optimizer.zero_grad()
        loss = sum((p * p * x).sum() for p in params)
        loss.backward()
        optimizer.step()
        return loss

    return gl.jit(step) if compiled else step


def trained(compiled=False, dtype="float32", make=gl.optim.Adam, **options):
    params = parameters(dtype)
    step = make_step(params, make(params, lr=0.1, **options), compiled)
    for k in range(4):
        step(gl.tensor(1.0 + k, dtype=getattr(gl, dtype)))
    return [p.detach().numpy().copy() for p in params]


def assert_equal(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


# --- which loop runs


@needs_numba
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_kernel_gives_the_numbers_of_numpy(everywhere, compiled, dtype):
    expected = trained(compiled, dtype, fused=False)
    assert not everywhere
    for options in ({}, {"fused": True}):
        everywhere.clear()
        assert_equal(trained(compiled, dtype, **options), expected)
        assert len(everywhere) == 4
    everywhere.clear()
    assert_equal(trained(compiled, dtype, foreach=False, fused=True), expected)
    assert len(everywhere) == 4 * 5


def test_eager_and_compiled_steps_give_the_same():
    assert_equal(trained(False, fused=False), trained(True, fused=False))


@needs_numba
def test_other_dtypes_have_no_kernel(everywhere):
    trained(dtype="float16")
    assert not everywhere
    with pytest.raises(OptionError, match="Adam: fused=True, and numpy has no fused kernel of it for float16"):
        trained(dtype="float16", fused=True)


def test_fused_without_numba(monkeypatch):
    monkeypatch.setenv("GRADLOOM_FAST", "0")
    trained()
    with pytest.raises(
        OptionError, match=r"(?s)numpy has no fused kernel.*install gradloom\[fast\], or leave fused out"
    ):
        trained(fused=True)


def test_small_updates_do_not_import_numba():
    code = (
        "import sys, numpy as np, gradloom as gl\n"
        "p = gl.ones(100, requires_grad=True)\n"
        "optimizer = gl.optim.Adam([p])\n"
        "(p * p).sum().backward()\n"
        "optimizer.step()\n"
        "assert 'numba' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_loops_of_threads_do_not_disturb_each_other():
    """Each thread has its own arrays for what lies between."""
    rule, flags, scalars = adam()
    rng = np.random.default_rng(0)
    columns = [[np.abs(rng.normal(size=50000)).astype("float32") for _ in range(4)] for _ in range(2)]
    expected = [[a.copy() for a in c] for c in columns]
    for p, g, m, v in expected:
        for _ in range(20):
            chunks.update(rule, flags, float32, p, [g], [m, v], scalars, chunks.groups([p.size]))

    def work(p, g, m, v):
        for _ in range(20):
            chunks.update(rule, flags, float32, p, [g], [m, v], scalars, chunks.groups([p.size]))

    workers = [threading.Thread(target=work, args=c) for c in columns]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    for a, b in zip(columns, expected, strict=True):
        assert_equal(a, b)


def test_groups():
    c = chunks.CHUNK
    assert chunks.groups([5]) == [(0, 5, 0, 1)]
    assert chunks.groups([0, 5]) == [(0, 5, 0, 2)]
    assert chunks.groups([c - 1, 1, 1]) == [(0, c, 0, 2), (c, c + 1, 2, 3)]
    assert chunks.groups([3, 2 * c, 4, 5]) == [(0, 3, 0, 1), (3, 2 * c + 3, 1, 2), (2 * c + 3, 2 * c + 12, 2, 4)]


# --- gradients of all kinds


class Strange(np.ndarray):
    """A type of NumPy arrays that is not NumPy's."""


KINDS = {
    "in order": lambda a: a.copy(),
    "columns": lambda a: np.asfortranarray(a),
    "broadcast": lambda a: np.broadcast_to(np.asarray(2, a.dtype), a.shape),
    "every second": lambda a: np.repeat(a, 2, -1)[..., ::2] if a.ndim else a,
    "backwards": lambda a: a[::-1] if a.ndim else a,
    "scalar": lambda a: a if a.ndim else a[()],
    "subclass": lambda a: a.copy().view(Strange),
}


@pytest.mark.parametrize("form", ["numba", "chunks"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_any_layout(kind, form):
    if form == "numba" and not fast.enabled():
        pytest.skip("pip install 'gradloom[fast]'")
    rule, flags, scalars = adam()
    rng = np.random.default_rng(1)
    grads = [KINDS[kind](rng.normal(size=s).astype("float32")) for s in ((3, 4), (5,), (), (2, 3, 2), (0, 2))]
    sizes = [g.size for g in grads]
    p, m, v = (np.abs(rng.normal(size=sum(sizes))).astype("float32") for _ in range(3))
    g = np.concatenate([np.array(g).reshape(-1) for g in grads])
    expected = rule.leaf(gl.get_backend("numpy").xp, p, g, m, v, *scalars, **flags)
    if form == "numba":
        fast.kernel(rule, flags, float32)([p], grads, [m], [v], *scalars)
    else:
        chunks.update(rule, flags, float32, p, grads, [m, v], scalars, chunks.groups(sizes))
    for found, wanted in zip((p, m, v), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("small", [0, 1 << 30], ids=["numba", "chunks"])
def test_a_parameter_that_is_the_gradient_of_another(small, monkeypatch):
    """It is read as it was before the update."""
    monkeypatch.setattr(fast, "SMALL", small)
    monkeypatch.setattr(chunks, "CHUNK", 4)
    monkeypatch.setattr(chunks, "_LOOPS", chunks._Loops())
    results = []
    for aliased in (False, True):
        params = parameters(shapes=((6,), (6,), (6,)))
        optimizer = gl.optim.SGD(params, lr=1.0)
        before = [p.detach().clone() for p in params]
        for _ in range(2):  # the second time the parameters are views of one array
            for p, other in zip(params, (params[2], params[0], params[1]), strict=True):
                p.grad = other.detach() if aliased else other.detach().clone()
            optimizer.step()
        results.append([p.detach().numpy().copy() for p in params])
    assert_equal(*results)
    assert not np.array_equal(results[0][0], before[0].numpy())


@needs_numba
def test_without_the_layout_of_objects():
    """Another interpreter than CPython: addresses are asked for one by one."""
    gather = object.__new__(fast.Gatherer)
    gather.find = None
    grads = [np.arange(6, dtype="float32").reshape(2, 3), np.arange(8, dtype="float32")[::2]]
    where, kept = gather(grads, np.array([0, 6, 10]), np.dtype("float32"))
    assert where.tolist() == [a.__array_interface__["data"][0] for a in kept]
    assert kept[0] is grads[0]
    np.testing.assert_array_equal(kept[1], grads[1])
    assert fast.gatherer().find is not None or object.__basicsize__ != 16


# --- threads


@needs_numba
@pytest.mark.parametrize("count", ["1", "3", "8"])
def test_threads_share_an_update(count, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", count)
    monkeypatch.setattr(fast, "SHARE", 100)
    assert fast.threads() == int(count)
    rule, flags, scalars = adam()
    rng = np.random.default_rng(2)
    sizes = [7, 1000, 0, 64, 3000, 1]
    grads = [rng.normal(size=n).astype("float32") for n in sizes]
    columns = [np.abs(rng.normal(size=sum(sizes))).astype("float32") for _ in range(3)]
    p, m, v = (c.copy() for c in columns)
    ranges = []
    kernel = fast.kernel(rule, flags, float32)
    monkeypatch.setattr(kernel, "run", lambda a, b, *rest, run=kernel.run: (ranges.append((a, b)), run(a, b, *rest)))
    kernel([p], grads, [m], [v], *scalars)
    assert len(ranges) == int(count)
    assert sorted(ranges)[0][0] == 0 and max(ranges)[1] == sum(sizes)
    chunks.update(rule, flags, float32, columns[0], grads, columns[1:], scalars, chunks.groups(sizes))
    assert_equal([p, m, v], columns)


@needs_numba
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_after_a_fork():
    code = (
        "import os, numpy as np\n"
        "from gradloom.graph.fast import POOL\n"
        "import gradloom.graph.fast as fast\n"
        "fast.SHARE = 10\n"
        "def run():\n"
        "    out = np.zeros(100)\n"
        "    def call(a, b): out[a:b] += 1\n"
        "    POOL.run(call, 100)\n"
        "    assert (out == 1).all()\n"
        "run()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    run()\n"
        "    os._exit(7)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7\n"
        "run()\n"
    )
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        check=True,
        timeout=100,
        env={**os.environ, "OMP_NUM_THREADS": "4"},
    )


# --- where kernels are kept

COMPILES = """
import gradloom as gl, numpy as np
from gradloom.graph import fast
fast.SMALL = 0
p = gl.ones(5, requires_grad=True)
optimizer = gl.optim.SGD([p], lr=0.5)
(p * p).sum().backward()
optimizer.step()
assert p.tolist() == [0.0] * 5, p
(kernel,) = fast._KERNELS.values()
print(sum(kernel.run.stats.cache_hits.values()), sum(kernel.run.stats.cache_misses.values()))
"""


def in_process(cache):
    done = subprocess.run(
        [sys.executable, "-c", COMPILES],
        env={**os.environ, "GRADLOOM_CACHE": str(cache)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@needs_numba
def test_kernels_are_compiled_once(tmp_path):
    assert in_process(tmp_path) == ["0", "1"]
    (file,) = (tmp_path / "kernels").glob("sgd_*.py")
    assert in_process(tmp_path) == ["1", "0"]
    file.write_text("raise SystemExit('what the file holds is not run')")
    assert in_process(tmp_path)[0] in "01"
    assert file.read_text().startswith('"""The update rule sgd(')
    assert not list((tmp_path / "kernels").glob("*.tmp"))


@needs_numba
def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    assert in_process(tmp_path / "file")[0] == "0"


@needs_numba
def test_machine_code_that_is_damaged(tmp_path):
    in_process(tmp_path)
    for file in (tmp_path / "kernels" / "__pycache__").iterdir():
        file.write_bytes(b"nothing")
    in_process(tmp_path)


def test_the_folder(monkeypatch):
    monkeypatch.delenv("GRADLOOM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/cache")
    monkeypatch.setattr(sys, "platform", "linux")
    assert str(fast.folder()) == os.path.join("/some/cache", "gradloom", "kernels")


# --- PyTorch: many small parameters in one array


@pytest.fixture
def torch():
    found = pytest.importorskip("torch")
    with gl.using_backend("torch"):
        yield found


def many(n=80):
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (4,), (), (2, 1, 3)] * (n // 4)
    return [gl.tensor(rng.normal(size=s).astype("float32"), requires_grad=True) for s in shapes]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("options", [{}, {"fused": False}, {"amsgrad": True}], ids=str)
def test_many_small_parameters_of_pytorch(torch, options, compiled, monkeypatch):
    results = []
    for flat in (True, False):
        monkeypatch.setattr(blocks, "MANY", 64 if flat else 1 << 30)
        params = many()
        optimizer = gl.optim.Adam(params, lr=0.1, **options)
        step = make_step(params, optimizer, compiled)
        for k in range(3):
            step(gl.tensor(1.0 + k))
        (block,) = optimizer._blocks[id(optimizer.param_groups[0])]
        assert block.flat is flat
        saved = optimizer.state_dict()
        params[3].data = params[3].detach() * 2  # moved into the array at the next step
        optimizer.load_state_dict(saved)
        step(gl.tensor(1.0))
        with gl.no_grad():
            params[5] += 1
        step(gl.tensor(1.0))
        results.append([p.detach().numpy().copy() for p in params])
        assert {s["step"] for s in optimizer.state.values()} == {5.0}
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_old_values_of_many_small_parameters(torch):
    """What a compiled step read before the update stays what it was."""
    params = many()
    optimizer = gl.optim.Adam(params, lr=0.1)

    @gl.jit
    def step(x):
        optimizer.zero_grad()
        old = params[0] * 1
        same = params[1].detach()
        sum((p * p * x).sum() for p in params).backward()
        first = same.clone()
        optimizer.step()
        return (params[0] - old).abs().sum(), (params[1] - first).abs().sum(), params[4]

    for _ in range(3):
        a, b, given = step(gl.tensor(1.0))
        assert a.item() > 0.5 and b.item() > 0.1
        np.testing.assert_array_equal(given.detach().numpy(), params[4].detach().numpy())


def test_few_or_large_parameters_of_pytorch_stay_apart(torch):
    for params in (many(16), [gl.zeros(5000, requires_grad=True) for _ in range(70)]):
        optimizer = gl.optim.Adam(params)
        make_step(params, optimizer, False)(gl.tensor(1.0))
        (block,) = optimizer._blocks[id(optimizer.param_groups[0])]
        assert not block.flat
