"""Gradient modes, threads, exceptions, and graphs too deep for recursion."""

import contextlib
import os
import subprocess
import sys
import textwrap
import threading

import pytest

import gradloom as gl

torch = pytest.importorskip("torch")

from tensor.programs import case, close, double, function, maker, plain, same, table  # noqa: E402

# ----------------------------------------------------------------------------------------------------------- grad modes


PROGRAMS: dict = {}


@case(PROGRAMS)
def modes_nest_and_are_restored(L, T):
    x, log = T([1.0]), []

    def note():
        log.append((L.is_grad_enabled(), L.is_inference_mode_enabled(), (x * 2).requires_grad))

    with L.no_grad():
        note()
        with L.enable_grad():
            note()
            with L.set_grad_enabled(False):
                note()
            note()
        note()
    with L.inference_mode():
        note()
        with L.inference_mode(False):
            log.append(L.is_inference_mode_enabled())
    with L.inference_mode(mode=False):
        note()
    L.set_grad_enabled(False)
    note()
    L.set_grad_enabled(True)
    with contextlib.suppress(ValueError), L.no_grad():
        raise ValueError
    note()
    return log


@case(PROGRAMS)
def modes_as_decorators(L, T):
    def mode():
        return L.is_grad_enabled(), L.is_inference_mode_enabled()

    decorators = [
        lambda: L.no_grad(), lambda: L.no_grad, lambda: L.enable_grad(), lambda: L.enable_grad,
        lambda: L.inference_mode(), lambda: L.inference_mode, lambda: L.inference_mode(False),
        lambda: L.set_grad_enabled(False), lambda: L.set_grad_enabled(True),
    ]  # fmt: skip
    functions = []
    for decorator in decorators:

        @decorator()
        def function(again=True):
            return mode(), function(False) if again else None

        functions.append(function)
    found = [(f.__name__, f(), mode()) for f in functions]
    with L.no_grad():
        return found, [(f(), mode()) for f in functions]


@case(PROGRAMS)
def mode_around_a_generator(L, T):
    log = []

    @L.no_grad()
    def steps(n):
        try:
            for i in range(n):
                log.append(((yield i), L.is_grad_enabled()))
        except ValueError:
            log.append(("thrown", L.is_grad_enabled()))
            yield "caught"
        finally:
            log.append(("closed", L.is_grad_enabled()))
        return "end"

    def outer():
        log.append((yield from steps(1)))

    log.append(list(outer()))
    first, second = steps(3), steps(3)
    log.append((next(first), L.is_grad_enabled(), first.send("sent"), L.is_grad_enabled()))
    next(second)
    log.append((second.throw(ValueError("x")), L.is_grad_enabled()))
    first.close()
    second.close()
    return log, L.is_grad_enabled()


@table(PROGRAMS)
def test_program_gives_what_pytorch_gives(program, dtype):
    same(program, dtype)
    assert torch.is_grad_enabled() and gl.is_grad_enabled()


def test_a_mode_may_be_entered_while_it_is_on():
    block = gl.no_grad()
    with block:
        with block:
            assert not gl.is_grad_enabled()
        assert not gl.is_grad_enabled()
    assert gl.is_grad_enabled()


def test_tensors_made_in_inference_mode_are_constants_later():
    x = gl.tensor([1.0, 2.0], requires_grad=True)
    with gl.inference_mode():
        y = x * 3
    assert not y.requires_grad
    (x * y).sum().backward()
    assert plain(x.grad) == [3.0, 6.0]


@pytest.mark.parametrize("mode", [gl.no_grad, gl.enable_grad])
def test_a_mode_takes_nothing_but_a_function(mode):
    with pytest.raises(TypeError, match="takes a function to decorate or nothing, not False"):
        mode(False)


# -------------------------------------------------------------------------------------------------------------- threads


def in_threads(count, work):
    """`work(i)` in `count` threads at once; gives the results, and raises what one raised."""
    start, results = threading.Barrier(count), [None] * count

    def run(i):
        start.wait(timeout=60)
        try:
            results[i] = work(i)
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(timeout=60)
    return results


def test_each_thread_has_its_own_mode():
    seen = []
    decorated = gl.no_grad()(lambda: gl.is_grad_enabled())

    def other(i):
        seen.append((gl.is_grad_enabled(), gl.is_inference_mode_enabled()))
        gl.set_grad_enabled(i == 0)
        return [decorated() for _ in range(200)], gl.is_grad_enabled()

    with gl.inference_mode():
        found = in_threads(4, other)
        assert not gl.is_grad_enabled() and gl.is_inference_mode_enabled()
    assert seen == [(True, False)] * 4
    assert found == [([False] * 200, i == 0) for i in range(4)]
    assert gl.is_grad_enabled()


def test_backward_in_many_threads_at_once(dtype):
    T = maker(gl, dtype)
    w = T([[0.5, -1.0], [2.0, 0.25]])  # shared
    make = [T([[1.0 + i, 2.0], [3.0, 4.0 - i]]) for i in range(4)]

    def work(i):
        x, results = make[i], []
        for _ in range(20):
            loss = ((x @ w).tanh() * x).sum()
            results.append(plain(gl.autograd.grad(loss, w, retain_graph=True)[0]))
            x.grad = None
            loss.backward(inputs=[x])
            results.append(plain(x.grad))
        return results

    alone = [work(i) for i in range(4)]
    for mine, expected in zip(in_threads(4, work), alone, strict=True):
        assert close(mine, expected, 1e-12), mine
    assert w.grad is None


@pytest.mark.parametrize("where", ["result", "leaf", "after"])
@pytest.mark.parametrize("thread", [False, True])
def test_an_exception_in_a_hook_comes_out_and_leaves_a_clean_state(where, thread, dtype):
    T = maker(gl, dtype)
    x, w = T([1.0, 2.0]), T([3.0, 4.0])
    y = x * 2
    loss = (y * w).sum()

    class Stop(Exception):
        pass

    def bad(_):
        raise Stop("from the hook")

    register = {"result": y.register_hook, "leaf": x.register_hook, "after": x.register_post_accumulate_grad_hook}
    handle = register[where](bad)

    def run(_):
        with pytest.raises(Stop, match="from the hook"):
            loss.backward(retain_graph=True)
        return gl.is_grad_enabled(), (x * 2).requires_grad

    assert (in_threads(1, run)[0] if thread else run(0)) == (True, True)
    if where != "after":
        assert x.grad is None and w.grad is None
    handle.remove()
    x.grad = w.grad = None
    loss.backward()
    assert plain(x.grad) == [6.0, 8.0] and plain(w.grad) == [2.0, 4.0]


def test_an_exception_in_backward_of_a_function_leaves_a_clean_state(backend):
    def bad(ctx, g):
        raise KeyError("from backward")

    x, w = gl.tensor([1.0], requires_grad=True), gl.tensor([1.0], requires_grad=True)
    with pytest.raises(KeyError, match="from backward"), gl.no_grad():
        with gl.enable_grad():
            y = (function(double, bad).apply(x) * w).sum()
        y.backward()
    assert x.grad is None and w.grad is None and gl.is_grad_enabled()


# ---------------------------------------------------------------------------------------------------------- deep graphs

DEEP = {
    "one operand": (100_000, "y = gl.sin(y)"),
    "two operands": (100_000, "y = y + y * 0.0"),
    "saved tensors": (100_000, "y = y * y.detach()"),
    "in place": (100_000, "y.add_(1)"),
    "several results": (30_000, "y = y.split(1)[0]"),
    "views": (30_000, "y = y.view(1)"),
    "views by index": (30_000, "y = y[None][0]"),
    "changes through views": (30_000, "y.view(1).mul_(1)"),
    "functions": (30_000, "y = F.apply(y)"),
}


@pytest.mark.parametrize(("depth", "step"), DEEP.values(), ids=DEEP)
def test_deep_graphs_need_no_stack(depth, step):
    """In a process of its own, since too deep a recursion may end it, and in a thread with little stack."""
    program = f"""
        import threading
        import gradloom as gl

        class F(gl.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x + 1

            @staticmethod
            def backward(ctx, g):
                return g * (ctx.saved_tensors[0] > 0)

        def deep():
            x = gl.tensor([1.0], requires_grad=True)
            y = x * 1
            for _ in range({depth}):
                {step}
            return x, y

        def work():
            x, y = deep()
            y.detach().add_(1)  # through all of the views
            del x, y  # without a backward pass
            x, y = deep()
            (g,) = gl.autograd.grad(y.sum(), x, retain_graph=True)
            y.sum().backward()
            assert x.grad.item() == g.item() != 0
            del x, y, g
            done.append(True)

        done = []
        threading.stack_size(512 * 1024)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        print("done" if done else "failed")
        """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True, text=True, timeout=300, check=False, env=environment,
    )  # fmt: skip
    assert (found.returncode, found.stdout.strip()) == (0, "done"), found.stderr[-2000:]


def test_a_recorded_pass_over_a_deep_graph():
    x = gl.tensor([0.5], requires_grad=True)
    y = x * 1
    for _ in range(3_000):
        y = y * 1.0001 + x * 0
    (g,) = gl.autograd.grad((y * y).sum(), x, create_graph=True)
    (h,) = gl.autograd.grad(g.sum(), x)
    assert h.item() == pytest.approx(2 * 1.0001**6000, rel=1e-2)
