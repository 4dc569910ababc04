"""backward, grad, hooks and their errors against PyTorch's."""

import copy

import pytest

import gradloom as gl
from gradloom.errors import DTypeError, GradientError, OptionError, ShapeError

torch = pytest.importorskip("torch")

from tensor.programs import case, maker, plain, same, table  # noqa: E402

# --------------------------------------------------------------------------------------------------------------- errors

# name: (program of x, which has two elements; error; text that PyTorch's message has, too)
ERRORS = {
    "backward of several elements": (
        lambda L, T, x: (x * 2).backward(),
        GradientError,
        "grad can be implicitly created only for scalar outputs",
    ),
    "grad of several elements": (
        lambda L, T, x: L.autograd.grad(x * 2, x),
        GradientError,
        "grad can be implicitly created only for scalar outputs",
    ),
    "no history": (
        lambda L, T, x: (x.detach() * 2).sum().backward(),
        GradientError,
        "element 0 of tensors does not require grad and does not have a grad_fn",
    ),
    "no history of the second": (
        lambda L, T, x: L.autograd.backward([x.sum(), x.detach().sum()]),
        GradientError,
        "element 1 of tensors does not require grad and does not have a grad_fn",
    ),
    "gradient of another shape": (
        lambda L, T, x: (x * 2).backward(T([1.0, 1.0, 1.0], False)),
        ShapeError,
        "Mismatch in shape: grad_output[0] has a shape of",
    ),
    "gradient that is a number": (lambda L, T, x: (x * 2).backward([1.0]), TypeError, "gradients can be either Tensors or None"),
    "input without gradient": (
        lambda L, T, x: L.autograd.grad((x * 2).sum(), [x, T([1.0], False)]),
        GradientError,
        "One of the differentiated Tensors does not require grad",
    ),
    "unused input": (
        lambda L, T, x: L.autograd.grad((x * 2).sum(), [x, T([1.0])]),
        GradientError,
        "appears to not have been used in the graph. Set allow_unused=True if this is the desired behavior.",
    ),
    "zeros wanted, None refused": (
        lambda L, T, x: L.autograd.grad((x * 2).sum(), x, allow_unused=False, materialize_grads=True),
        OptionError,
        "Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False.",
    ),
    "empty inputs": (
        lambda L, T, x: (x * 2).sum().backward(inputs=[]),
        GradientError,
        "`inputs` argument to `backward()` cannot be empty.",
    ),
    "in place on a leaf": (
        lambda L, T, x: x.add_(1),
        GradientError,
        "a leaf Variable that requires grad is being used in an in-place operation.",
    ),
    "in place on a view of a leaf": (
        lambda L, T, x: x[:1].mul_(2),
        GradientError,
        "a view of a leaf Variable that requires grad is being used in an in-place operation.",
    ),
    "assignment into a leaf": (
        lambda L, T, x: x.__setitem__(0, 1.0),
        GradientError,
        "leaf Variable that requires grad is being used in an in-place operation.",
    ),
    "in place on a view made under no_grad": (
        lambda L, T, x: under_no_grad(L, lambda y: y[:1], x * 2).mul_(3),
        GradientError,
        "A view was created in no_grad mode and is being modified inplace with grad mode enabled.",
    ),
    "detach_ of a view": (lambda L, T, x: (x * 2)[:1].detach_(), GradientError, "Can't detach views in-place. Use detach() instead."),
    "requires_grad_ of a result": (
        lambda L, T, x: (x * 2).requires_grad_(False),
        GradientError,
        "you can only change requires_grad flags of leaf variables.",
    ),
    "requires_grad_ of integers": (lambda L, T, x: L.tensor([1]).requires_grad_(), GradientError, "can require gradients"),
    "hook without gradient": (
        lambda L, T, x: x.detach().register_hook(print),
        GradientError,
        "cannot register a hook on a tensor that doesn't require grad",
    ),
    "post accumulate hook on a result": (
        lambda L, T, x: (x * 2).register_post_accumulate_grad_hook(print),
        GradientError,
        "post accumulate grad hooks cannot be registered on non-leaf tensors",
    ),
    "retain_grad without gradient": (
        lambda L, T, x: x.detach().retain_grad(),
        GradientError,
        "can't retain_grad on Tensor that has requires_grad=False",
    ),
    "its own grad": (lambda L, T, x: setattr(x, "grad", x), GradientError, "can't assign Variable as its own grad"),
    "grad that is a number": (lambda L, T, x: setattr(x, "grad", 1.0), TypeError, "assigned grad expected to be a Tensor or None but got"),
    "grad of another size": (lambda L, T, x: setattr(x, "grad", T([1.0], False)), ShapeError, "assigned grad has data of a different size"),
    "numpy of what requires grad": (
        lambda L, T, x: x.numpy(),
        GradientError,
        "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.",
    ),
    "a second pass": (
        lambda L, T, x: twice(lambda y: y.backward(), (x * x).sum()),
        GradientError,
        "Trying to backward through the graph a second time",
    ),
    "a pass after grad": (
        lambda L, T, x: twice(lambda y: L.autograd.grad(y, x), (x * x).sum()),
        GradientError,
        "Trying to backward through the graph a second time",
    ),
    "a saved operand changed": (
        lambda L, T, x: changed(x * 2, lambda y: y * y, lambda y: y.add_(1)),
        GradientError,
        "one of the variables needed for gradient computation has been modified by an inplace operation",
    ),
    "a saved operand changed under no_grad": (
        lambda L, T, x: changed(x * 2, lambda y: y * y, lambda y: under_no_grad(L, lambda y: y.add_(1), y)),
        GradientError,
        "is at version 1; expected version 0 instead.",
    ),
    "a saved operand changed through a view": (
        lambda L, T, x: changed(x * 2, lambda y: y * y, lambda y: y[0].zero_()),
        GradientError,
        "is at version 1; expected version 0 instead.",
    ),
    "a saved operand changed through detach": (
        lambda L, T, x: changed(x * 2, lambda y: y * y, lambda y: y.detach().mul_(2)),
        GradientError,
        "is at version 1; expected version 0 instead.",
    ),
    "a saved leaf changed": (
        lambda L, T, x: changed(T([3.0, 4.0]), lambda y: y * x, lambda y: under_no_grad(L, lambda y: y.mul_(2), y)),
        GradientError,
        "is at version 1; expected version 0 instead.",
    ),
    "a saved result changed": (
        lambda L, T, x: x.exp().add_(1).sum().backward(),
        GradientError,
        "one of the variables needed for gradient computation has been modified by an inplace operation",
    ),
    "hook that changes the size": (lambda L, T, x: hooked(x, lambda g: g[:1]), ShapeError, "has changed the size of value"),
    "hook that changes the dtype": (lambda L, T, x: hooked(x, lambda g: g.to(L.float16)), DTypeError, "has changed the type of value"),
    "hook that gives a number": (lambda L, T, x: hooked(x, lambda g: 3), TypeError, "but hook"),
}  # fmt: skip


def under_no_grad(L, run, y):
    with L.no_grad():
        return run(y)


def twice(run, y):
    run(y)
    run(y)


def changed(y, use, change):
    out = use(y).sum()
    change(y)
    out.backward()


def hooked(x, hook):
    y = x * 2
    y.register_hook(hook)
    (y * y).sum().backward()


@pytest.mark.parametrize(("program", "error", "text"), ERRORS.values(), ids=ERRORS)
def test_error_has_pytorchs_text_and_leaves_gradients_alone(program, error, text, dtype):
    for L, d, expected in ((torch, "float64", (RuntimeError, TypeError, ValueError)), (gl, dtype, error)):
        if L is torch and text.startswith("assigned grad has"):
            continue  # its text differs from version to version
        T = maker(L, d)
        x = T([1.0, 2.0])
        x.grad = T([5.0, 5.0], False)
        with pytest.raises(expected) as found:
            program(L, T, x)
        assert text in str(found.value)
        assert plain(x.grad) == ([7.0, 9.0] if program is ERRORS["a second pass"][0] else [5.0, 5.0])
        assert plain(x) == [1.0, 2.0]
        assert L.is_grad_enabled()


def test_messages_of_gradloom_name_what_was_given_and_what_to_do():
    x = gl.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(GradientError, match=r"(?s)a Tensor of shape \[2\].*backward\(gradient\)"):
        (x * 2).backward()
    with gl.no_grad():
        y = (x * 2).sum()
        with pytest.raises(GradientError, match="computed under no_grad"):
            y.backward()
    with pytest.raises(GradientError, match="Tensor at index 1 appears"):
        gl.autograd.grad(x.sum(), [x, gl.ones(2, requires_grad=True)])


def test_a_graph_is_still_there_after_grad_refused_an_unused_input(dtype):
    T = maker(gl, dtype)
    x, other = T([1.0, 2.0]), T([1.0])
    y = (x * x).sum()
    with pytest.raises(GradientError, match="unused"):
        gl.autograd.grad(y, [x, other])
    assert plain(gl.autograd.grad(y, x)) == [[2.0, 4.0]]


# ---------------------------------------------------------------------------- hooks, grad, retain_grad: against PyTorch
PROGRAMS: dict = {}


@case(PROGRAMS)
def hook_changes_the_gradient_of_a_result(L, T):
    x = T([1.0, 2.0])
    y = x * 2
    y.register_hook(lambda g: g * 3)
    (y * y).sum().backward()
    return x.grad


@case(PROGRAMS)
def hook_changes_the_gradient_of_a_leaf_after_all_of_it_is_there(L, T):
    x, seen = T([1.0, 2.0]), []
    x.register_hook(lambda g: seen.append(plain(g)))
    x.register_hook(lambda g: g * 10)
    (x * x + x.exp() + 3 * x).sum().backward()
    return seen, x.grad


@case(PROGRAMS)
def hooks_of_a_leaf_run_in_grad(L, T):
    x = T([1.0, 2.0])
    x.register_hook(lambda g: g + 1)
    return L.autograd.grad((x * x).sum(), x)


@case(PROGRAMS)
def hooks_run_in_order_and_each_gets_what_the_last_gave(L, T):
    x, log = T([1.0, 2.0]), []
    y = x * 2
    z = y.exp()
    x.register_hook(lambda g: log.append(("x", plain(g))))
    z.register_hook(lambda g: log.append(("z", plain(g))))
    y.register_hook(lambda g: [log.append(("y1", plain(g))), g * 2][1])
    y.register_hook(lambda g: log.append(("y2", plain(g))))
    x.register_post_accumulate_grad_hook(lambda t: log.append(("after", plain(t.grad))))
    z.sum().backward()
    return log


@case(PROGRAMS)
def removed_hook_is_not_called(L, T):
    x, log = T([1.0, 2.0]), []
    y = x * 2
    first, second = y.register_hook(lambda g: log.append(1)), y.register_hook(lambda g: log.append(2))
    leaf = x.register_hook(lambda g: log.append(3))
    after = x.register_post_accumulate_grad_hook(lambda t: log.append(4))
    y.sum().backward(retain_graph=True)
    first.remove()
    first.remove()
    y.sum().backward(retain_graph=True)
    for handle in (second, leaf, after):
        handle.remove()
    y.sum().backward()
    return log, x.grad


@case(PROGRAMS)
def hook_that_removes_itself(L, T):
    x, handles = T([1.0, 2.0]), []

    def once(g):
        handles[0].remove()
        return g * 10

    y = x * 2
    handles.append(y.register_hook(once))
    s = y.sum()
    s.backward(retain_graph=True)
    s.backward()
    return x.grad


@case(PROGRAMS)
def hooks_of_one_of_several_results(L, T):
    x = T([[1.0, 2.0], [4.0, 3.0]])
    values, indices = x.max(1)
    a, b = (x * 1).split(1)
    for t in (values, a):
        t.register_hook(lambda g: g * 2)
        t.retain_grad()
    (values * values).sum().backward()
    (a * b).sum().backward()
    return x.grad, values.grad, a.grad, indices.requires_grad


@case(PROGRAMS)
def hook_set_before_a_change_in_place_stays_with_the_value_before(L, T):
    x, log = T([1.0, 2.0]), []
    y = x * 2
    y.register_hook(lambda g: log.append(plain(g)))
    y.mul_(3)
    y.sum().backward()
    return log, x.grad


@case(PROGRAMS)
def hook_may_run_a_backward_pass_of_its_own(L, T):
    x = T([1.0, 2.0])

    def inner(g):
        with L.enable_grad():
            z = T([5.0])
            (z * z).sum().backward()
        return g * z.grad

    y = x * 2
    y.register_hook(inner)
    y.sum().backward()
    return x.grad


@case(PROGRAMS)
def hook_survives_freezing(L, T):
    x = T([1.0, 2.0])
    x.register_hook(lambda g: g * 2)
    x.requires_grad_(False)
    frozen = (x * 2).requires_grad
    x.requires_grad_()
    (x * 3).sum().backward()
    return frozen, x.grad


@case(PROGRAMS)
def post_accumulate_hook_may_drop_the_gradient(L, T):
    x, w = T([1.0, 2.0]), T([3.0, 4.0])
    x.register_post_accumulate_grad_hook(lambda t: setattr(t, "grad", None))
    (x * w).sum().backward()
    return x.grad, w.grad


@case(PROGRAMS)
def post_accumulate_hook_is_not_called_by_grad(L, T):
    x, log = T([1.0, 2.0]), []
    x.register_post_accumulate_grad_hook(lambda t: log.append(1))
    L.autograd.grad((x * x).sum(), x)
    return log


@case(PROGRAMS)
def retain_grad_is_last_and_counts_once(L, T):
    x = T([1.0, 2.0])
    y = x * 2
    before = y.retains_grad
    y.retain_grad()
    y.retain_grad()
    y.register_hook(lambda g: g * 3)
    x.retain_grad()
    y.sum().backward()
    return y.grad, x.grad, before, y.retains_grad, x.retains_grad


@case(PROGRAMS)
def retain_grad_accumulates(L, T):
    x = T([1.0, 2.0])
    y = x * 2
    y.retain_grad()
    s = (y * y).sum()
    s.backward(retain_graph=True)
    s.backward()
    return y.grad, x.grad


@case(PROGRAMS)
def retain_grad_follows_changes_in_place(L, T):
    x = T([1.0, 2.0, 3.0, 4.0])
    y, z = x * 2, x * 1
    y.retain_grad()
    y.mul_(3)
    v = z[1:3]
    v.retain_grad()
    v.mul_(2)
    (y * y).sum().backward()
    (v * v).sum().backward()
    return x.grad, y.grad, v.grad


@case(PROGRAMS)
def backward_accumulates(L, T):
    x = T([1.0, 2.0])
    (x * x).sum().backward()
    first = x.grad
    (x * x * x).sum().backward()
    total = plain(x.grad)
    x.grad = None
    (x * 2).sum().backward()
    return total, x.grad, x.grad is first


@case(PROGRAMS)
def backward_with_inputs(L, T):
    x, w = T([1.0, 2.0]), T([3.0, 4.0])
    y = x * w
    y.retain_grad()
    (y * y).sum().backward(inputs=[x], retain_graph=True)
    only_x = [plain(t.grad) for t in (x, w)]
    (y * w).sum().backward(inputs=w)
    return only_x, x.grad, w.grad


@case(PROGRAMS)
def backward_into_a_result(L, T):
    x, w = T([1.0, 2.0]), T([3.0, 4.0])
    y = x * 2
    (y * w).sum().backward(inputs=[y])
    return x.grad, y.grad, w.grad


@case(PROGRAMS)
def gradients_of_many_outputs(L, T):
    x = T([1.0, 2.0])
    y = x * x
    g = L.autograd.grad([y, y.sum(), x], [x, x, y], [T([1.0, 2.0], False), None, T([7.0, 8.0], False)])
    L.autograd.backward([(x * 2).sum(), x * 3], [None, T([1.0, 10.0], False)])
    return g, x.grad


@case(PROGRAMS)
def gradient_of_another_dtype_is_cast(L, T):
    x = T([1.0, 2.0])
    (x * 2).backward(L.tensor([1, 2]))
    return x.grad, x.grad.dtype is x.dtype


@case(PROGRAMS)
def gradients_with_respect_to_itself_and_to_nothing(L, T):
    x, other = T([1.0, 2.0]), T([1.0])
    y = x * 2
    one = T([1.0, 1.0], False)
    nothing = L.autograd.grad(y, [other, x], one, allow_unused=True, retain_graph=True)
    zeros = L.autograd.grad(y, [other], one, materialize_grads=True)
    x.backward(one)
    return L.autograd.grad(x * 2, x, one), L.autograd.grad(y, [y, x], one), nothing, zeros, x.grad


@case(PROGRAMS)
def a_second_pass_where_nothing_was_saved(L, T):
    x = T([1.0, 2.0])
    y = (x + 1).sum()
    y.backward()
    y.backward()
    return x.grad


@case(PROGRAMS)
def a_second_pass_with_retain_graph(L, T):
    x = T([1.0, 2.0])
    y = (x * x.exp()).sum()
    y.backward(retain_graph=True)
    y.backward()
    return x.grad


@case(PROGRAMS)
def detached_tensors_have_no_history_and_the_same_memory(L, T):
    x = T([1.0, 2.0, 3.0])
    y = x * 2
    d, v = y.detach(), y[1:].detach()
    d[0] = 100.0
    v.mul_(10)
    with L.no_grad():
        x.detach()[2] = 7.0
    y.sum().backward()
    return d.requires_grad, v.is_leaf, y, x, x.grad


@case(PROGRAMS)
def requires_grad_may_be_dropped_before_backward(L, T):
    x, w = T([1.0, 2.0]), T([3.0, 4.0])
    y = (x * w).sum()
    x.requires_grad_(False)
    y.backward()
    return x.grad, w.grad, x.requires_grad, x.is_leaf


@case(PROGRAMS)
def detach_in_place(L, T):
    x = T([1.0, 2.0])
    y = x * 2
    y.detach_()
    z = y * x
    z.sum().backward()
    return y.requires_grad, y.is_leaf, x.grad


@case(PROGRAMS)
def copies_of_a_leaf_are_leaves_of_their_own(L, T):
    x = T([1.0, 2.0, 3.0])
    (x * 3).sum().backward()
    deep, shallow = copy.deepcopy(x), copy.copy(x)
    (deep * 5).sum().backward()
    (shallow * 7).sum().backward()
    data = T([1.0, 2.0, 3.0], False)
    first, view, again = copy.deepcopy([data, data[1:], data])
    view.add_(1)
    copy.copy(data).mul_(10)
    return x.grad, deep.grad, shallow.grad, deep.is_leaf, first, view, again is first, data


@table(PROGRAMS)
def test_program_gives_what_pytorch_gives(program, dtype):
    same(program, dtype)
    assert torch.is_grad_enabled() and gl.is_grad_enabled()
