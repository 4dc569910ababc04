"""autograd.Function, gradcheck, grad and value_and_grad."""

import gc
import weakref

import numpy as np
import pytest

import gradloom as gl
from gradloom.errors import GradientError

torch = pytest.importorskip("torch")

from tensor.programs import FUNCTION, case, double, function, maker, plain, same, table  # noqa: E402

# ------------------------------------------------------------------------------------------------------------- Function


PROGRAMS: dict = {}


@case(PROGRAMS)
def function_of_several_arguments_and_results(L, T):
    log = []

    class F(FUNCTION[L]):
        @staticmethod
        def forward(ctx, x, n, w, flag=None):
            log.append((ctx.needs_input_grad[:3], L.is_grad_enabled()))
            ctx.save_for_backward(x, None, w)
            ctx.n = n
            big = x > 1
            ctx.mark_non_differentiable(big)
            return x * w * n, x + w, big, "text"

        @staticmethod
        def backward(ctx, a, b, c, d):
            x, none, w = ctx.saved_tensors
            log.append((plain(a), plain(b), plain(c), d, none, L.is_grad_enabled()))
            return a * w * ctx.n + b, None, a * x * ctx.n + b

    x, w = T([1.0, 2.0]), T([3.0, 4.0])
    a, b, c, d = F.apply(x, 5, w)
    log.append((a.requires_grad, b.is_leaf, c.requires_grad, d))
    a.sum().backward(retain_graph=True)
    (a * b).sum().backward()
    e = F.apply(x, 2, w.detach())[1]
    e.sum().backward()
    with L.no_grad():
        log.append(F.apply(x, 1, w)[0].requires_grad)
    return log, x.grad, w.grad


@case(PROGRAMS)
def function_gets_none_where_it_does_not_want_zeros(L, T):
    log = []

    class F(FUNCTION[L]):
        @staticmethod
        def forward(ctx, x, materialize):
            ctx.set_materialize_grads(materialize)
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, a, b):
            log.append((plain(a), plain(b)))
            return sum(g for g in (a, b) if g is not None), None

    x = T([1.0, 2.0])
    for materialize in (True, False):
        for k in (0, 1):
            F.apply(x, materialize)[k].sum().backward()
    return log, x.grad


@case(PROGRAMS)
def function_may_give_no_gradient_and_nones_too_many(L, T):
    class F(FUNCTION[L]):
        @staticmethod
        def forward(ctx, x, w):
            return x * w

        @staticmethod
        def backward(ctx, g):
            return None, g, None, None

    x, w = T([1.0, 2.0]), T([3.0, 4.0])
    F.apply(x, w).sum().backward()
    return x.grad, w.grad


@case(PROGRAMS)
def function_with_setup_context(L, T):
    class F(FUNCTION[L]):
        @staticmethod
        def forward(x, n):
            return x * n

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(inputs[0], output)
            ctx.n = inputs[1]

        @staticmethod
        def backward(ctx, g):
            x, out = ctx.saved_tensors
            return g * out / x, None

    x = T([1.0, 2.0])
    F.apply(x, 4).sum().backward()
    return x.grad


@case(PROGRAMS)
def function_whose_gradient_is_summed_and_cast(L, T):
    class F(FUNCTION[L]):
        @staticmethod
        def forward(ctx, x):
            return x * T([[1.0, 1.0], [1.0, 1.0]], False)

        @staticmethod
        def backward(ctx, g):
            return g.to(L.float32)

    x, y = T([1.0, 2.0]), T([[1.0], [3.0]])
    (F.apply(x) * F.apply(y)).sum().backward()
    return x.grad, y.grad, x.grad.dtype is x.dtype


@case(PROGRAMS)
def function_that_returns_its_argument(L, T):
    class Reverse(FUNCTION[L]):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return -g * x

    x = T([1.0, 2.0])
    y = Reverse.apply(x)
    (g,) = L.autograd.grad((y * y).sum(), x, create_graph=True)
    return y is x, y.is_leaf, g, L.autograd.grad(g.sum(), x)


@case(PROGRAMS)
def derivatives_of_functions_up_to_the_third(L, T):
    class Cube(FUNCTION[L]):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 3 * x * x * g

    class ExpAndProduct(FUNCTION[L]):
        @staticmethod
        def forward(ctx, x, w):
            e, p = x.exp(), x * w
            ctx.save_for_backward(x, w, e)  # a result among what is saved
            return e, p

        @staticmethod
        def backward(ctx, a, b):
            x, w, e = ctx.saved_tensors
            return a * e + b * w, b * x

    x, w = T([0.5, 1.5]), T([2.0, 3.0])
    e, p = ExpAndProduct.apply(Cube.apply(x), w)
    g, h = L.autograd.grad((e * p + e).sum(), [x, w], create_graph=True)
    second = L.autograd.grad((g * g).sum() + h.sum(), [x, w], create_graph=True)
    return g, h, second, L.autograd.grad(second[0].sum(), [x, w])


@table(PROGRAMS)
def test_program_gives_what_pytorch_gives(program, dtype):
    same(program, dtype)
    assert torch.is_grad_enabled() and gl.is_grad_enabled()


# ----------------------------------------------------------------------------------------------------- Function, errors


FUNCTION_ERRORS = {
    "too few gradients": (lambda ctx, g: g, (1,), GradientError, "(?s)FBackward returned an incorrect number of gradients.*2.*1"),
    "too many gradients": (lambda ctx, g: (g, None, g), (1,), GradientError, "incorrect number of gradients"),
    "a gradient for what is no Tensor": (lambda ctx, g: (g, g), (1,), GradientError, "different from None at position 2"),
    "wrong shape": (lambda ctx, g: g.sum()[None][[0, 0, 0]], (), GradientError, r"(?s)an invalid gradient at index 0.*\[2\].*\[3\]"),
    "no Tensor": (lambda ctx, g: 3, (), GradientError, r"expected Tensor or None \(got int\)"),
}  # fmt: skip


@pytest.mark.parametrize(("backward", "rest", "error", "text"), FUNCTION_ERRORS.values(), ids=FUNCTION_ERRORS)
@pytest.mark.parametrize("create_graph", [False, True])
def test_function_errors(backward, rest, error, text, create_graph, backend):
    x = gl.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(error, match=text):
        function(double, backward).apply(x, *rest).sum().backward(create_graph=create_graph)
    assert x.grad is None and gl.is_grad_enabled()


def test_function_frees_and_checks_what_it_saved(backend):
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.token = alive[0]
        return x * x

    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g

    class Token:
        pass

    alive = [Token()]
    ref = weakref.ref(alive[0])
    F = function(forward, backward)
    x = gl.tensor([1.0, 2.0], requires_grad=True)
    y = F.apply(x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert plain(x.grad) == [4.0, 8.0]
    with pytest.raises(GradientError, match="a second time"):
        y.backward()
    h = x * 1
    z = F.apply(h)
    h.add_(1)
    with pytest.raises(GradientError, match="save_for_backward is at version 1; expected version 0"):
        z.sum().backward()
    assert plain(x.grad) == [4.0, 8.0]
    with pytest.raises(TypeError, match="save_for_backward can only save Tensors"):
        function(lambda ctx, x: ctx.save_for_backward(x, 3), backward).apply(x)
    # Nothing but the graph holds a call: not the class, not a registry, not a cycle.
    gc.collect()
    gc.disable()
    try:
        del alive[:], y, z
        assert ref() is None
    finally:
        gc.enable()


def test_function_without_its_methods():
    x = gl.tensor([1.0], requires_grad=True)
    with pytest.raises(NotImplementedError, match="implement the forward"):
        type("F", (gl.autograd.Function,), {}).apply(x)
    y = type("F", (gl.autograd.Function,), {"forward": staticmethod(double)}).apply(x)
    assert y.grad_fn.name() == "F"
    with pytest.raises(NotImplementedError, match="implement the backward"):
        y.sum().backward()


def test_graphs_die_without_the_garbage_collector(dtype):
    gc.collect()
    gc.disable()
    try:
        for use in (
            lambda x: x.exp().sum(),
            lambda x: (x * x)[0].view(1).sum(),
            lambda x: gl.autograd.grad((x**3).sum(), x, create_graph=True)[0].sum(),
            lambda x: (x * 2).mul_(x).split(1)[0].sum(),
        ):
            x = maker(gl, dtype)([1.0, 2.0])
            y = x * 1
            ref = weakref.ref(y)
            out = use(y)
            del y
            out.backward()
            del out, x
            assert ref() is None
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------------------------------ gradcheck


def wrong(ctx, g):
    return g * 2.01


RIGHT = {
    "exp": lambda x, w: x.exp() * x,
    "several results": lambda x, w: (x @ w, (x * x).sum(), x.argmax()),
    "a result that is detached, among others": lambda x, w: (x * 2, w.detach() * 3),
    "function": lambda x, w: function(double, lambda ctx, g: g * 2).apply(x),
}
WRONG = {
    "function": lambda x, w: function(double, wrong).apply(x),
    "second result": lambda x, w: (x * w, function(double, wrong).apply(w)),
    "zero": lambda x, w: function(double, lambda ctx, g: g * 0).apply(x),
    "None": lambda x, w: function(double, lambda ctx, g: None).apply(x) + w,
    "detached": lambda x, w: x.detach() * 2,
    "one operand detached": lambda x, w: x * x.detach(),
}


def pair():
    return [gl.tensor([[0.5, 1.5], [2.0, -1.0]], dtype=gl.float64, requires_grad=True) for _ in range(2)]


@pytest.mark.parametrize("f", RIGHT.values(), ids=RIGHT)
def test_gradcheck_passes_right_gradients(f):
    assert gl.autograd.gradcheck(f, pair())


@pytest.mark.parametrize("f", WRONG.values(), ids=WRONG)
def test_gradcheck_catches_wrong_gradients(f):
    with pytest.raises(
        GradientError, match=r"(?s)Jacobian mismatch for output \d with respect to input \d.*numeric.*analytic"
    ):
        gl.autograd.gradcheck(f, pair())
    assert gl.autograd.gradcheck(f, pair(), raise_exception=False) is False


def test_gradgradcheck():
    def f(x):
        return function(lambda ctx, x: [ctx.save_for_backward(x), x**3][1], right).apply(x)

    def half(x):  # the gradient is right, its gradient is not
        return function(lambda ctx, x: [ctx.save_for_backward(x), x**3][1], detached).apply(x)

    def right(ctx, g):
        return 3 * ctx.saved_tensors[0] ** 2 * g

    def detached(ctx, g):
        x = ctx.saved_tensors[0]
        return 3 * x * x.detach() * g

    x = pair()[0]
    assert gl.autograd.gradcheck(f, x) and gl.autograd.gradgradcheck(f, x)
    assert gl.autograd.gradcheck(half, x)
    with pytest.raises(GradientError, match="Jacobian mismatch"):
        gl.autograd.gradgradcheck(half, x)
    with pytest.raises(ValueError, match="at least one input that requires a gradient"):
        gl.autograd.gradcheck(f, x.detach())


# ---------------------------------------------------------------------------------------------- grad and value_and_grad


def test_nested_gradients_of_functions(dtype):
    T = maker(gl, dtype)
    f = lambda x: (x**4).sum()
    x = T(2.0, False)
    derivatives = [f]
    for _ in range(3):
        derivatives.append(gl.grad(derivatives[-1]))
    assert [plain(d(x)) for d in derivatives] == pytest.approx([16.0, 32.0, 48.0, 48.0], rel=1e-5)
    assert not gl.grad(gl.grad(f))(x).requires_grad and x.grad is None and not x.requires_grad


NESTED = {
    # name: (function of x, its derivative at x = 2)
    "the inner function takes x from its surroundings": (lambda x: x * gl.grad(lambda y: x * y * y)(x.detach() * 0 + 3), 24.0),
    "the inner argument depends on x": (lambda x: gl.grad(lambda y: y**3)(x * 2), 48.0),
    "both": (lambda x: gl.grad(lambda y: x * x * y**3)(x), 96.0),
    "the inner gradient is a constant": (lambda x: x * gl.grad(lambda y: y**3)(x.detach() * 0 + 3), 27.0),
    "the value of the inner": (lambda x: gl.value_and_grad(lambda y: x * y)(x.detach())[0] * x, 8.0),
    "three levels": (lambda x: gl.grad(lambda y: gl.grad(lambda z: x * y * z * z)(y) * y)(x), 72.0),
    "autograd.grad inside": (lambda x: gl.autograd.grad(x**3, x, create_graph=True)[0], 12.0),
}  # fmt: skip


@pytest.mark.parametrize(("f", "expected"), NESTED.values(), ids=NESTED)
def test_gradient_of_a_gradient(f, expected, dtype):
    assert plain(gl.grad(f)(maker(gl, dtype)(2.0, False))) == pytest.approx(expected, rel=1e-5)


def test_gradients_of_trees(dtype):
    T = maker(gl, dtype)
    a, b, c = T([1.0, 2.0], False), T([3.0, 4.0], False), T([5.0, 6.0], False)

    def f(p, x, scale=1.0):
        loss = ((p["a"] * p["b"][0] + p["b"][1]) * x["x"]).sum() * scale
        return loss

    p, x = {"a": a, "b": [b, T([0.0, 0.0], False), T([9.0], False)]}, {"x": c}
    value, g = gl.value_and_grad(f)(p, x, scale=2.0)
    assert plain(value) == 126.0 and not value.requires_grad
    assert {k: plain(v) for k, v in g.items()} == {"a": [30.0, 48.0], "b": [[10.0, 24.0], [10.0, 12.0], [0.0]]}
    value, (gx, gp) = gl.value_and_grad(f, argnums=(1, 0))(p, x)
    assert plain(gx["x"]) == [3.0, 8.0] and plain(gp["a"]) == [15.0, 24.0]
    assert plain(gl.grad(f, argnums=1)(p, x)["x"]) == plain(gl.grad(f, argnums=-1)(p, x)["x"]) == [3.0, 8.0]
    assert a.grad is None and not a.requires_grad

    def penalty(p):
        g = gl.grad(f)(p, x)
        return (g["a"] ** 2).sum() + (g["b"][0] ** 2).sum() + (g["b"][1] ** 2).sum()

    # |d_a|² = Σ b²c², |d_b0|² = Σ a²c²
    second = gl.grad(penalty)(p)
    assert plain(second["a"]) == [50.0, 144.0] and plain(second["b"][0]) == [150.0, 288.0]


def test_has_aux(dtype):
    x = maker(gl, dtype)([1.0, 2.0], False)
    f = lambda x: ((x * x).sum(), {"double": x * 2, "n": 3})
    (value, aux), g = gl.value_and_grad(f, has_aux=True)(x)
    assert plain(value) == 5.0 and plain(g) == [2.0, 4.0]
    assert plain(aux["double"]) == [2.0, 4.0] and aux["n"] == 3 and not aux["double"].requires_grad
    g, aux = gl.grad(f, has_aux=True)(x)
    assert plain(g) == [2.0, 4.0] and plain(aux["double"]) == [2.0, 4.0]
    with pytest.raises(GradientError, match=r"(?s)has_aux=True needs a function that gives \(number, more\).*a Tensor"):
        gl.grad(lambda x: x.sum(), has_aux=True)(x)


def test_gradients_for_arrays_and_numbers():
    g = gl.grad(lambda a, n: (a * a).sum() * n, argnums=(0, 1))(np.array([1.0, 2.0]), 3.0)
    assert isinstance(g[0], np.ndarray) and g[0].tolist() == [6.0, 12.0] and float(g[1]) == 5.0
    with gl.no_grad():
        assert gl.grad(lambda x: x * x)(gl.tensor(3.0)).item() == 6.0


@pytest.mark.parametrize(
    ("f", "x", "text"),
    [
        (lambda x: x * 2, [1.0, 2.0], r"(?s)needs a function that gives one number.*shape \[2\]"),
        (lambda x: 3.0, [1.0, 2.0], "(?s)needs a function that gives one number.*float"),
        (lambda x: gl.tensor(1.0), [1.0], "does not depend on the arguments"),
        (lambda x: x.sum(), [1, 2], "floating point dtype"),
        (lambda x: x.add_(1).sum(), [1.0], "a leaf Variable that requires grad"),
    ],
)
def test_errors_of_grad_leave_everything_as_it_was(f, x, text):
    x = gl.tensor(x)
    before = plain(x)
    with pytest.raises(GradientError, match=text):
        gl.grad(f)(x)
    assert plain(x) == before and not x.requires_grad
    assert not gl.grad(lambda x: (x * x).sum())(gl.tensor([1.0])).requires_grad  # not taken for a nested one
