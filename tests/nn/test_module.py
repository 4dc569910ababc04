"""`Module`: attributes, names, state, modes, hooks, errors."""

import copy
import re
from collections import OrderedDict

import numpy as np
import pytest

import gradloom as gl
from gradloom import nn
from gradloom.graph.graph import PLACE, Graph
from gradloom.tensor.storage import STRUCTURE


class Block(nn.Module):
    def __init__(self, n=3):
        super().__init__()
        self.fc = nn.Linear(n, n)
        self.register_buffer("scale", gl.ones(n))
        self.register_buffer("cache", gl.zeros(2), persistent=False)
        self.shift = nn.Parameter(gl.zeros(n))
        self.nothing = None
        self.register_parameter("none", None)

    def forward(self, x):
        return self.fc(x) * self.scale + self.shift


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(Block(), nn.ReLU(), Block())
        self.tied = self.features[0]

    def forward(self, x):
        return self.features(x)


def test_names():
    net = Net()
    names = [
        "features.0.shift",
        "features.0.fc.weight",
        "features.0.fc.bias",
        "features.2.shift",
        "features.2.fc.weight",
    ]
    assert [k for k, _ in net.named_parameters()][:5] == names
    assert [k for k, _ in net.named_buffers()] == [f"features.{i}.{b}" for i in (0, 2) for b in ("scale", "cache")]
    assert "tied.shift" in dict(net.named_parameters(remove_duplicate=False))
    assert len(list(net.parameters())) == 6
    assert list(net.parameters(recurse=False)) == []
    assert [k for k, _ in net.named_modules()] == [
        "",
        "features",
        "features.0",
        "features.0.fc",
        "features.1",
        "features.2",
        "features.2.fc",
    ]
    assert [k for k, _ in net.named_children()] == ["features", "tied"]
    assert next(iter(dict(net.named_parameters(prefix="net")))) == "net.features.0.shift"
    slots = [k for k, _ in net.__jit_slots__("m.")]
    assert len(slots) == len(set(slots)) == 9 + 6
    assert "m.features.0.cache" in slots
    state = net.state_dict()
    assert "features.0.cache" not in state and "tied.scale" in state
    assert state["features.0.scale"] is not net.features[0].scale
    assert net.state_dict(keep_vars=True)["features.0.shift"] is net.features[0].shift
    assert next(iter(net.features.state_dict(prefix="a."))) == "a.0.shift"


def test_getters():
    net = Net()
    assert net.get_submodule("features.2.fc") is net.features[2].fc
    assert net.get_submodule("") is net
    assert net.get_parameter("features.0.fc.bias") is net.features[0].fc.bias
    assert net.get_buffer("features.0.scale") is net.features[0].scale
    for call, text in [
        (lambda: net.get_submodule("features.7"), "Sequential has no attribute `7`"),
        (lambda: net.get_submodule("features.0.shift"), "`shift` is not an nn.Module"),
        (lambda: net.get_parameter("features.0.scale"), "`scale` is not an nn.Parameter"),
        (lambda: net.get_buffer("features.0.shift"), "`shift` is not a buffer"),
        (lambda: net.missing, "'Net' object has no attribute 'missing'"),
    ]:
        with pytest.raises(AttributeError, match=re.escape(text)):
            call()


def test_attributes_change_kind():
    m = nn.Module()
    m.a = 1
    m.a = nn.Parameter(gl.ones(2))
    assert "a" in m._parameters and "a" not in m.__dict__
    m.a = None
    assert m.a is None and "a" in m._parameters
    with pytest.raises(TypeError, match=r"cannot assign 'gradloom\.tensor\.tensor\.Tensor' as parameter 'a'"):
        m.a = gl.ones(2)
    m.b = nn.Linear(1, 1)
    with pytest.raises(TypeError, match="cannot assign 'int' as child module 'b'"):
        m.b = 3
    m.b = nn.Parameter(gl.ones(1))
    assert "b" not in m._modules
    with pytest.raises(TypeError, match="as parameter 'b'"):
        m.b = nn.ReLU()
    del m.b
    m.b = nn.ReLU()
    m.c = nn.Buffer(gl.ones(2), persistent=False)
    assert "c" in m._buffers and "c" not in m.state_dict()
    m.c = gl.zeros(3)
    assert "c" in m._buffers and m.c.shape == (3,) and "c" not in m.state_dict()
    with pytest.raises(TypeError, match="as buffer 'c'"):
        m.c = 3
    del m.b, m.c, m.a
    assert not hasattr(m, "b") and not m._buffers and not m._non_persistent_buffers_set
    with pytest.raises(AttributeError):
        del m.b


@pytest.mark.parametrize(
    ("do", "error", "text"),
    [
        (lambda m: m.register_parameter("a.b", None), KeyError, "parameter name can"),
        (lambda m: m.register_parameter("", None), KeyError, "be empty string"),
        (lambda m: m.register_buffer("forward", None), KeyError, "attribute 'forward' already exists"),
        (lambda m: m.register_buffer(1, None), TypeError, "buffer name should be a string. Got int"),
        (lambda m: m.register_buffer("a", 1), TypeError, "cannot assign 'int' object to buffer 'a'"),
        (lambda m: m.register_parameter("a", gl.ones(1)), TypeError, "object to parameter 'a'"),
        (lambda m: m.add_module("a", 3), TypeError, "int is not a Module subclass"),
        (lambda m: m.add_module("a.b", nn.ReLU()), KeyError, "module name can"),
        (lambda m: m(1), NotImplementedError, 'Module [Module] is missing the required "forward" function'),
        (lambda m: m.train(1), ValueError, "training mode is expected to be boolean"),
        (lambda m: nn.Module(3), TypeError, "__init__() got"),
        (lambda m: m.to("int32"), TypeError, "only accepts floating point dtypes"),
        (lambda m: m.load_state_dict([]), TypeError, "Expected state_dict to be dict-like"),
    ],
)
def test_errors(do, error, text):
    with pytest.raises(error, match=re.escape(text)):
        do(nn.Module())


def test_assignment_before_init():
    class Late(nn.Module):
        def __init__(self, value):
            self.x = value

    for value, text in [
        (nn.Parameter(gl.ones(1)), "parameters"),
        (nn.ReLU(), "module"),
        (nn.Buffer(gl.ones(1)), "buffer"),
    ]:
        with pytest.raises(AttributeError, match=rf"cannot assign {text} before Module.__init__\(\) call"):
            Late(value)
    assert Late(3).x == 3


def test_a_computed_tensor_is_no_parameter():
    p = nn.Parameter(gl.ones(1))
    m = nn.Module()
    odd = nn.Parameter(gl.ones(1))
    odd._node = (p * 2)._node
    with pytest.raises(ValueError, match="Cannot assign non-leaf Tensor to parameter 'w'"):
        m.w = odd
    with pytest.raises(TypeError):
        m.register_parameter("w", p * 2)


# ------------------------------------------------------------------------------------------------------------- state


def test_load_state_dict():
    a, b = Net(), Net()
    weight = b.features[0].fc.weight
    result = b.load_state_dict(a.state_dict())
    assert repr(result) == "<All keys matched successfully>"
    assert b.features[0].fc.weight is weight and weight.requires_grad
    for (_, u), (_, v) in zip(a.__jit_slots__(), b.__jit_slots__(), strict=True):
        np.testing.assert_array_equal(gl.to_numpy(u), gl.to_numpy(v))
    assert b.features[0].fc.weight._array is not a.features[0].fc.weight._array  # an optimizer may write in place
    loaded = nn.Linear(2, 1)
    loaded.load_state_dict({"weight": np.ones((1, 2)), "bias": np.float64(3).reshape(1)})
    assert loaded.weight.dtype is gl.float32
    assert loaded.bias.item() == 3


def test_state_dict_shares_memory():
    m = nn.Linear(2, 1)
    state = m.state_dict()
    with gl.no_grad():
        m.weight.fill_(7)
    assert state["weight"].tolist() == [[7, 7]]
    assert not state["weight"].requires_grad


def test_load_state_dict_errors_leave_the_module_unchanged():
    m = nn.Sequential(OrderedDict(a=nn.Linear(2, 3), b=nn.BatchNorm1d(3)))
    before = {k: gl.to_numpy(v).copy() for k, v in m.state_dict().items()}
    state = {k: v + 1 for k, v in before.items()}
    state["a.weight"] = np.zeros((3, 4))
    del state["a.bias"]
    state["c"] = np.zeros(1)
    state["b.bias"] = "text"
    with pytest.raises(RuntimeError) as caught:
        m.load_state_dict(state)
    lines = str(caught.value).split("\n\t")
    assert lines[0] == "Error(s) in loading state_dict for Sequential:"
    assert lines[1] == 'Unexpected key(s) in state_dict: "c". '
    assert lines[2] == 'Missing key(s) in state_dict: "a.bias". '
    assert lines[3] == (
        "size mismatch for a.weight: copying a param with shape gradloom.Size([3, 4]) from checkpoint, the shape in "
        "current model is gradloom.Size([3, 2])."
    )
    assert lines[4].startswith('While copying the parameter named "b.bias", expected a Tensor')
    for k, v in m.state_dict().items():
        np.testing.assert_array_equal(gl.to_numpy(v), before[k])
    del state["a.weight"], state["b.bias"]
    result = m.load_state_dict(state, strict=False)
    assert result == ([], []) and m.b.num_batches_tracked.item() == 1


def test_load_state_dict_assign():
    m = nn.Linear(2, 1)
    m.weight.requires_grad_(False)
    w = gl.ones(1, 2, dtype="float64")
    m.load_state_dict({"weight": w, "bias": gl.zeros(1)}, assign=True)
    assert m.weight.dtype is gl.float64 and not m.weight.requires_grad and m.bias.requires_grad
    w.zero_()
    assert m.weight.tolist() == [[0, 0]]
    assert isinstance(m.weight, nn.Parameter)


def test_extra_state():
    class Counter(nn.Module):
        n = 0

        def get_extra_state(self):
            return self.n

        def set_extra_state(self, state):
            self.n = state

    a, b = nn.Sequential(Counter()), nn.Sequential(Counter())
    a[0].n = 5
    assert a.state_dict() == {"0._extra_state": 5}
    b.load_state_dict(a.state_dict())
    assert b[0].n == 5
    with pytest.raises(RuntimeError, match="Missing key"):
        b.load_state_dict({})


def test_deepcopy():
    a = Net()
    a(gl.ones(1, 3)).sum().backward()
    b = copy.deepcopy(a)
    assert b.tied is b.features[0] and b.tied is not a.tied
    p, q = a.tied.fc.weight, b.tied.fc.weight
    assert (
        isinstance(q, nn.Parameter)
        and q.grad is not p.grad
        and gl.to_numpy(q.grad).tolist() == gl.to_numpy(p.grad).tolist()
    )
    with gl.no_grad():
        q.zero_()
        b.tied.scale.zero_()
    assert p.abs().sum().item() > 0 and a.tied.scale.sum().item() == 3
    b(gl.ones(1, 3)).sum().backward()
    assert q.is_leaf


# ------------------------------------------------------------------------------------------------------------- modes


def test_modes_and_conversions():
    net = Net()
    assert net.eval() is net and not net.features[0].fc.training
    assert net.train().features[0].fc.training
    assert all(p.requires_grad for p in net.parameters())
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())
    net.requires_grad_()
    weight = net.features[0].fc.weight
    net(gl.ones(1, 3)).sum().backward()
    net.double()
    assert weight is net.features[0].fc.weight and weight.dtype is gl.float64 and weight.grad.dtype is gl.float64
    assert weight.is_leaf and weight.requires_grad and net.features[0].scale.dtype is gl.float64
    net(gl.ones(1, 3, dtype="float64")).sum().backward()
    assert net.half().features[0].scale.dtype is gl.float16
    assert net.to(gl.float32).features[0].scale.dtype is gl.float32
    norm = nn.BatchNorm1d(2).double()
    assert norm.num_batches_tracked.dtype is gl.int64
    with pytest.raises(RuntimeError):
        net.to("cuda:9")
    assert net.cpu() is net
    net.zero_grad(set_to_none=False)
    assert weight.grad.abs().sum().item() == 0
    net.zero_grad()
    assert weight.grad is None
    seen = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen[0] == "Linear" and seen[-1] == "Net"


def test_every_change_is_counted():
    m = nn.Sequential(nn.Linear(2, 2))

    def counted(do):
        before = STRUCTURE.version
        do()
        return STRUCTURE.version > before

    handle = m.register_forward_hook(lambda *a: None)
    for do in [
        lambda: setattr(m, "x", 1),
        lambda: delattr(m, "x"),
        lambda: m.eval(),
        lambda: m.add_module("more", nn.ReLU()),
        lambda: m._modules.pop("more"),
        lambda: m.register_buffer("b", gl.ones(1)),
        lambda: setattr(m, "b", gl.ones(1)),
        lambda: setattr(m[0], "weight", nn.Parameter(gl.ones(2, 2))),
        lambda: m[0].register_parameter("extra", None),
        lambda: m.double(),
        lambda: m.register_forward_pre_hook(lambda *a: None),
        handle.remove,
    ]:
        assert counted(do)
    key = m.__jit_key__()
    hash(key)
    assert m.train().__jit_key__() != key


# ------------------------------------------------------------------------------------------------------------- hooks


def test_forward_hooks():
    m, log = nn.Linear(2, 2), []
    x = gl.ones(1, 2)
    a = m.register_forward_pre_hook(lambda mod, args: log.append("pre"))
    b = m.register_forward_hook(lambda mod, args, out: log.append("post"))
    m.register_forward_hook(lambda mod, args, out: log.append("first"), prepend=True)
    plain = m(x)
    assert log == ["pre", "first", "post"]
    a.remove(), b.remove(), b.remove()
    m.register_forward_pre_hook(lambda mod, args: args[0] * 0)
    m.register_forward_hook(lambda mod, args, kwargs, out: out + 1, with_kwargs=True)
    np.testing.assert_allclose(gl.to_numpy(m(x)), gl.to_numpy(m.bias + 1)[None])
    assert log[3:] == ["first"] and plain.shape == (1, 2)
    m.register_forward_pre_hook(lambda mod, args, kwargs: (args, {"input": x}), with_kwargs=True)
    with pytest.raises(TypeError, match="multiple values"):
        m(x)
    always = nn.Linear(2, 2)
    always.register_forward_hook(lambda mod, args, out: log.append(out), always_call=True)
    with pytest.raises(ValueError):
        always(gl.ones(1, 3))
    assert log[-1] is None


def test_full_backward_hooks():
    m, log = nn.Linear(2, 3), []
    x = gl.ones(1, 2, requires_grad=True)
    handle = m.register_full_backward_hook(lambda mod, gi, go: log.append((gi, go)))
    (m(x).sum() + (x * 2).sum()).backward()  # the hook sees only what comes through the module
    (gi,), (go,) = log[0]
    np.testing.assert_allclose(gl.to_numpy(gi), gl.to_numpy(m.weight).sum(0, keepdims=True), rtol=1e-6)
    assert go.tolist() == [[1, 1, 1]]
    handle.remove()
    handle = m.register_full_backward_hook(lambda mod, gi, go: (gi[0] * 0,))
    x.grad = None
    m(x).sum().backward()
    assert x.grad.tolist() == [[0, 0]]
    handle.remove()
    m.register_full_backward_hook(lambda mod, gi, go: log.append(gi))
    m(gl.ones(1, 2)).sum().backward()
    assert log[-1] == (None,)
    two = nn.Bilinear(2, 2, 1)
    two.register_full_backward_hook(lambda mod, gi, go: log.append(gi))
    two(x, gl.ones(1, 2, requires_grad=True)).sum().backward()
    assert len(log[-1]) == 2 and all(g is not None for g in log[-1])


# ------------------------------------------------------------------------------------------------------ errors, tracing


class Custom(Exception):
    pass


def test_an_error_says_in_which_module():
    class Fail(nn.Module):
        error = ValueError("no good")

        def forward(self, x):
            raise self.error

    inner = Fail()
    net = nn.Sequential(nn.ReLU(), nn.Sequential(inner))
    with pytest.raises(ValueError) as caught:
        net(gl.ones(1))
    assert str(caught.value) == "no good\n  where:    in module 1.0 (Fail)"
    assert caught.value is inner.error
    for error, text in [(KeyError("k"), "in module 1.0 (Fail)"), (Custom("c"), "in module 1.0 (Fail)")]:
        inner.error, before = error, str(error)
        with pytest.raises(type(error)) as other:
            net(gl.ones(1))
        assert str(other.value) == before and other.value.__notes__ == [text]
    with pytest.raises(gl.errors.ShapeError) as shape:
        nn.Sequential(nn.Identity(), nn.Conv2d(3, 4, 3))(gl.ones(1, 5, 8, 8))
    lines = str(shape.value).split("\n")
    assert lines[3] == "  where:    in module 1 (Conv2d)" and lines[-1].startswith("  do:")
    assert str(shape.value).count("in module") == 1


class Scoped(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.ReLU()
        self.register_buffer("state", gl.zeros(2))

    def forward(self, action):
        loss = nn.MSELoss()  # made here, so it may be set up here
        loss.reduction = "sum"
        self.train()  # no change
        self.state = self.state
        return action(self)


@pytest.fixture
def traced():
    net = nn.Sequential(nn.Sequential(Scoped()), Scoped())
    PLACE.graph, PLACE.paths = Graph(), net.__jit_paths__("net")
    yield net
    PLACE.graph, PLACE.paths = None, {}
    assert PLACE.scope == ""


def test_scopes_of_a_trace(traced):
    assert PLACE.paths[id(traced[0][0].inner)] == "net.0.0.inner"
    assert traced[0](lambda m: PLACE.scope) == "net.0.0"
    PLACE.paths = {id(traced): "net"}  # the others are found from their caller
    traced.__dict__["forward"] = lambda action: traced[0](action)
    assert traced(lambda m: PLACE.scope) == "net.0.0"
    with pytest.raises(ValueError, match=r"where:    in module 0\.0 \(Scoped\)"):
        traced(lambda m: int("x"))


@pytest.mark.parametrize(
    ("name", "do"),
    [
        ("count", lambda m: setattr(m, "count", 3)),
        ("inner", lambda m: setattr(m, "inner", nn.Identity())),
        ("training", lambda m: m.eval()),
        ("state", lambda m: setattr(m, "state", None)),
        ("more", lambda m: m.register_buffer("more", gl.zeros(1))),
        ("state", lambda m: delattr(m, "state")),
    ],
)
def test_a_trace_sets_no_attributes(traced, name, do):
    with pytest.raises(gl.errors.TraceError) as caught:
        traced[0](do)
    text = str(caught.value)
    assert f"the attribute '{name}' of a module was" in text
    assert "in module net.0.0 (Scoped)" in text and "test_module.py" in text and f"net.0.0.{name} = " in text


def test_a_compiled_step_with_batch_norm_and_dropout():
    def make():
        gl.manual_seed(3)
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
        return net, gl.optim.SGD(net.parameters(), lr=0.1)

    def train(compiled):
        net, optimizer = make()

        def step(x, y):
            optimizer.zero_grad()
            loss = nn.CrossEntropyLoss()(net(x), y)
            loss.backward()
            optimizer.step()
            return loss

        step = gl.jit(step) if compiled else step
        gl.manual_seed(4)
        rng = np.random.default_rng(0)
        losses = [
            step(gl.tensor(rng.normal(size=(16, 4)).astype("float32")), gl.tensor(rng.integers(0, 2, 16))).item()
            for _ in range(4)
        ]
        return losses, {k: gl.to_numpy(v) for k, v in net.state_dict().items()}

    losses, state = train(False)
    again, compiled = train(True)
    np.testing.assert_allclose(again, losses, rtol=1e-5)
    assert compiled["1.num_batches_tracked"] == 4
    for k, v in state.items():
        np.testing.assert_allclose(compiled[k], v, rtol=1e-4, atol=1e-5, err_msg=k)


# ---------------------------------------------------------------------------------------------------------- parameters


def test_parameter():
    t = gl.ones(2)
    p = nn.Parameter(t)
    assert isinstance(p, gl.Tensor) and p.requires_grad and p.is_leaf
    assert repr(p) == "Parameter containing:\ntensor([1., 1.], requires_grad=True)"
    assert type(p * 2) is gl.Tensor and type(p.detach()) is gl.Tensor
    t.fill_(3)
    assert p.tolist() == [3, 3]
    assert not nn.Parameter(t, requires_grad=False).requires_grad
    assert nn.Parameter().shape == (0,)
    with pytest.raises(RuntimeError, match="floating point"):
        nn.Parameter(gl.tensor([1]))
    assert nn.Parameter(gl.tensor([1]), requires_grad=False).dtype is gl.int64

    class Named(nn.Parameter):
        pass

    assert (Named(t) + 1).tolist() == [4, 4]
    with pytest.raises(RuntimeError, match="leaf"):
        p.add_(1)
    q = copy.deepcopy(p)
    assert type(q) is nn.Parameter and q.requires_grad and q._array is not p._array


# ------------------------------------------------------------------------------------------------------------- engines


def test_on_every_engine(backend):
    x = np.linspace(-1, 1, 2 * 3 * 8 * 8, dtype="float32").reshape(2, 3, 8, 8)

    def run():
        gl.manual_seed(5)
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding="same"), nn.BatchNorm2d(4), nn.GELU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(2),
            nn.Flatten(), nn.Dropout(0.25), nn.LayerNorm(16), nn.Linear(16, 5),
        )  # fmt: skip
        table = nn.Embedding(5, 5)
        out = net(gl.tensor(x)) + table(gl.tensor([0, 3]))
        loss = nn.CrossEntropyLoss(label_smoothing=0.1)(out, gl.tensor([1, 2]))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        found = {k: gl.to_numpy(v) for k, v in net.state_dict().items()} | {"loss": loss.item(), "norm": norm.item()}
        return found | {f"grad {k}": gl.to_numpy(p.grad) for k, p in net.named_parameters()}, net

    found, net = run()
    assert net[0].weight.backend == backend
    with gl.using_backend("numpy"):
        reference, _ = run()
    for key, value in reference.items():
        np.testing.assert_allclose(found[key], value, rtol=2e-4, atol=2e-6, err_msg=key)
    net.to(backend="numpy")
    assert net[0].weight.backend == "numpy" and net[1].num_batches_tracked.backend == "numpy"
    assert net[0].weight.grad.backend == "numpy"
    with pytest.raises(IndexError):
        nn.Embedding(5, 5)(gl.tensor([5]))
