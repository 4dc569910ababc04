"""The functional face of the optimizers: `init(params)` and `update(params, gradients, state)` over dicts of arrays.

The rules are those of `optim.rules`; here they meet dicts. State is ``{parameter: {slot: array}}``. A function of the number of updates may
stand for any option (`optim.schedules`). Arrays may be of any engine, Tensors, or traced: `update` is pure and works inside
`jax.jit` and `gradloom.jit`. In a foreign jit the options are constants, as all that a function closes over; there
a rate that changes is a schedule.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Parameter, signature
from typing import Any, ClassVar

from .. import ops
from ..backends.registry import backend_of
from ..dtypes import default_dtype, float32
from ..errors import OptionError, ShapeError, explain
from ..graph.graph import PLACE, Value
from ..tensor.tape import Raw
from ..tensor.tensor import Tensor
from .block import plain_options, put
from .bound import Optimizer as Bound
from .rules.rule import HOST, Over, Rule
from .state import State, as_tensor, counter, like, make_state, number, raw, same_container, some, with_gradients


class AnyBackend:
    """The methods of backends for arrays of any engine: each is the method of the first array's own backend."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("__"):
            raise AttributeError(name)

        def method(*args: Any, **kwargs: Any) -> Any:
            arrays = (a for a in (*args, *kwargs.values()) if hasattr(a, "shape"))
            first = next(arrays, None)
            if first is None:
                raise OptionError(
                    explain(f"backend.{name} is given no array, so its engine is not known", do="use a backend itself")
                )
            if isinstance(first, Tensor):
                return getattr(ops, name)(*args, **kwargs)
            home = backend_of(first)
            return getattr(home(dtype=home.dtype_of(first)), name)(*args, **kwargs)

        return method


class Optimizer:
    """Base of the functional optimizers. Subclasses give `init` and `update`.

    Args:
        learning_rate: A number, or a function of the number of updates.
        lr: Another name for it.

    Attributes:
        param_groups: One dict with the options under PyTorch's names: what schedulers read and write.
        backend: Methods of backends for whatever arrays they are given, `self.backend.zeros_like(param)`.

    Example:
        >>> import numpy as np
        >>> from gradloom.training.optimizers import Optimizer
        >>> class Descent(Optimizer):
        ...     def init(self, params):
        ...         return {name: {} for name in params}
        ...
        ...     def update(self, params, gradients, state):
        ...         return {n: p - self.learning_rate * gradients[n] for n, p in params.items()}, state
        >>> optimizer = Descent(learning_rate=0.5)
        >>> params = {"w": np.array([1.0])}
        >>> optimizer.update(params, {"w": np.array([1.0])}, optimizer.init(params))
        ({'w': array([0.5])}, {'w': {}})
    """

    functional: ClassVar[bool] = True
    backend: ClassVar[AnyBackend] = AnyBackend()
    _kept: State | None = None  # of `step`
    _stepped: Sequence[Tensor] = ()

    def __init__(self, learning_rate: Any = 0.01, *, lr: Any = None):
        rate = one_of("learning_rate", learning_rate, "lr", lr, 0.01)
        check_rate(rate)
        self.param_groups: list[dict[str, Any]] = [{"lr": rate}]

    # --- options

    @property
    def learning_rate(self) -> Any:
        """The rate; schedulers write it, and a change never compiles anything anew."""
        rate = option(self.param_groups[0], "lr")
        return Raw.wrap(rate) if type(rate) is Value else rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        check_rate(value)
        self.param_groups[0]["lr"] = float(value) if type(value) is int else value

    def get_learning_rate(self) -> Any:
        """The learning rate."""
        return self.learning_rate

    def set_learning_rate(self, value: Any) -> None:
        """Sets the learning rate, a number or a function of the number of updates.

        Raises:
            ValueError: It is negative.
        """
        self.learning_rate = value

    get_lr, set_lr = get_learning_rate, set_learning_rate

    def rate(self, slots: Mapping[str, Any]) -> Any:
        """The learning rate for the next update of a parameter with these slots."""
        rate = self.learning_rate
        return rate(slots["step"]) if callable(rate) else rate

    # --- what subclasses give

    def init(self, params: Mapping[str, Any]) -> State:
        """The state before the first update: {parameter: {slot: array}}."""
        raise NotImplementedError(f"{type(self).__name__} does not define init(params)")

    def update(self, params: Any, gradients: Any, state: State) -> tuple[Any, State]:
        """New parameters, in the container class of `params`, and the new state; changes no argument."""
        raise NotImplementedError(f"{type(self).__name__} does not define update(params, gradients, state)")

    # --- in place

    def step(self, params: Any, grads: Any) -> None:
        """One update in place; the optimizer keeps the state.

        Args:
            params: A dict of arrays, whose entries are replaced; or Tensors in a list (`model.parameters()`), which get new values.
            grads: A dict with the same names; or gradients in a list, in the same order.

        Raises:
            ShapeError: A gradient has another shape than its parameter; or other numbers of parameters and gradients.
        """
        if isinstance(params, Mapping):
            named = params
        else:
            tensors = [params] if isinstance(params, Tensor) else list(params)
            named = {str(i): p for i, p in enumerate(tensors)}
            if not isinstance(grads, Mapping):
                grads = list(grads)
                if len(grads) != len(tensors):
                    raise ShapeError(
                        explain(
                            f"{type(self).__name__}.step takes one gradient for each parameter",
                            expected=f"{len(tensors)} gradients",
                            given=f"{len(grads)}",
                            do="give None for a parameter that has none",
                        )
                    )
                grads = dict(zip(named, grads, strict=True))
            self._stepped = tensors
        grads = {n: g for n, g in grads.items() if g is not None}
        if self._kept is None:
            self._kept = self.init(named)
        new, self._kept = self.update(named, grads, self._kept)
        for name, p in named.items():
            if isinstance(params, Mapping):
                params[name] = new[name]  # type: ignore[index]
            elif new[name] is not p:
                put(p, new[name]._array)

    def zero_grad(self) -> None:
        """Drops the gradients of the Tensors that `step` was given last. (Gradients in dicts are not kept by the optimizer.)"""
        for p in self._stepped:
            p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Options, and the state of `step`."""
        return {"options": dict(self.param_groups[0]), "state": self._kept}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.param_groups[0].update(state_dict["options"])
        self._kept = state_dict["state"]

    # --- what gradloom.jit asks: options that are numbers are inputs, the rest is code

    def __jit_slots__(self, prefix: str) -> Iterable:
        return ()

    def __jit_key__(self) -> tuple:
        plain = {k: v for k, v in vars(self).items() if isinstance(v, (bool, int, float, str, type(None)))}
        return (id(self), *sorted(plain.items()), *sorted((k, str(v)) for k, v in self._code().items()))

    def _code(self) -> dict[str, Any]:
        """What of the options selects code."""
        return {k: v for k, v in self.param_groups[0].items() if not is_number(v) and k not in UNUSED}


class RuleOptimizer(Optimizer):
    """A functional optimizer over an update rule. Its options are those of a class in `gradloom.optim`, under its names or others.

    Subclasses name that class, other names of options, and defaults of their own::

        class Adam(RuleOptimizer, of=optim.Adam, names={"learning_rate": "lr", "beta1": ("betas", 0), ...}):
    """

    of: ClassVar[type[Bound]]
    names: ClassVar[dict[str, Any]]
    #: Options that select code though they are numbers: those at whose values the rule looks.
    coded: ClassVar[tuple[str, ...]] = ()
    other_defaults: ClassVar[dict[str, Any]]

    def __init_subclass__(cls, of: type[Bound] | None = None, names: dict | None = None, **defaults: Any):
        if of is not None:
            cls.of, cls.names, cls.other_defaults = of, {"learning_rate": "lr", **(names or {})}, defaults
            known = {k: p for k, p in signature(of.__init__).parameters.items() if k not in ("self", "params", *UNUSED)}
            given: dict[str, Any] = {}
            for name, place in cls.names.items():
                option, index = place if isinstance(place, tuple) else (place, None)
                default = defaults.get(option, known[option].default)
                given[name] = Parameter(
                    name, Parameter.POSITIONAL_OR_KEYWORD, default=default if index is None else default[index]
                )
            for name, p in known.items():
                if name not in {q[0] if isinstance(q, tuple) else q for q in cls.names.values()}:
                    given[name] = p.replace(kind=Parameter.KEYWORD_ONLY, default=defaults.get(name, p.default))
            cls.__signature__ = signature(of).replace(parameters=list(given.values()))  # type: ignore[attr-defined]

    def __init__(self, *args: Any, **kwargs: Any):
        cls = type(self)
        options = cls._options(args, kwargs)
        prototype = cls.of.prototype(**{k: _value(v, 0) for k, v in options.items()})  # schedules: their first values
        super().__init__(options.get("lr", prototype.defaults.get("lr", 0.0)))
        self.rule: Rule = prototype.rule
        self._prototype = prototype
        self.param_groups = [{**prototype.defaults, **{k: v for k, v in options.items() if has_schedule(v)}}]

    @classmethod
    def _options(cls, args: tuple, kwargs: dict) -> dict[str, Any]:
        """Options under the names of the bound class."""
        names = list(cls.names)
        if len(args) > len(names):
            raise TypeError(f"{cls.__name__} takes at most {len(names)} positional arguments ({', '.join(names)})")
        given = dict(zip(names, args, strict=False))
        if twice := sorted(given.keys() & kwargs.keys()):
            raise TypeError(f"{cls.__name__} got {twice[0]} twice")
        given |= kwargs
        options: dict[str, Any] = {}
        parts: dict[str, dict[int, Any]] = {}
        known = cls.__signature__.parameters  # type: ignore[attr-defined]
        bound = {p[0] if isinstance(p, tuple) else p for p in cls.names.values()}
        for name, value in given.items():
            place = cls.names.get(name)
            if place is None and name not in known and name not in bound:
                raise OptionError(
                    explain(
                        f"{cls.__name__} has no option '{name}'",
                        expected=", ".join([*known, *sorted(bound - known.keys())]),
                        given=name,
                    )
                )
            if isinstance(place, tuple):
                parts.setdefault(place[0], {})[place[1]] = value
                continue
            option = place or name
            if option in options:
                raise OptionError(
                    explain(
                        f"{cls.__name__} was given '{option}' under two names",
                        do=f"give {next(n for n, p in cls.names.items() if p == option)}= or {option}=",
                    )
                )
            options[option] = value
        for option, values in parts.items():
            if option in options:
                raise OptionError(
                    explain(
                        f"{cls.__name__} was given '{option}' and parts of it",
                        given=", ".join(n for n, p in cls.names.items() if isinstance(p, tuple) and n in given),
                        do="give one or the other",
                    )
                )
            whole = list(cls.other_defaults.get(option) or cls.of.prototype().defaults[option])
            for index, value in values.items():
                whole[index] = value
            options[option] = tuple(whole)
        return {**cls.other_defaults, **options}

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v}" for k, v in self.param_groups[0].items() if k not in UNUSED)
        return f"{type(self).__name__}({options})"

    # --- init and update

    def init(self, params: Mapping[str, Any]) -> State:
        """The state before the first update.

        Args:
            params: {name: array}. The state of placeholders (a model compiled without shapes) is filled when they are.

        Returns:
            {name: {"step": number of updates, slot: array, ...}}; arrays of the parameter's engine and dtype.
        """
        return make_state(params, functools.partial(self._start, {}))

    def _start(self, counters: dict, name: str, p: Any) -> dict[str, Any]:
        """The slots of a parameter.

        Args:
            counters: Those that were made for other parameters: what is equal is one array, which tells `update` that it is.
        """
        array = raw(p)
        o = self.options(0)
        if self.rule.per != "tree":
            self._prototype.check_group({**o, "params": [Raw.wrap(array)]})
        flags = {**self.rule.flags(self._coded()), **self.rule.kind(tuple(array.shape), o)}
        kind = (type(p), type(array), array.dtype)
        if kind not in counters:
            first = zip(self.rule.numbers, self.rule.first_numbers(o), strict=True)
            counters[kind] = {"step": counter(p, 0), **{n: counter(p, x) for n, x in first}}
        arrays = {slot: like(p, self.rule.first(slot, array, o)) for slot in self.rule.state(flags)}
        return {**counters[kind], **arrays}

    def options(self, updates: Any) -> dict[str, Any]:
        """The options for the update after `updates`: Tensors are numbers, and schedules their values."""
        return {k: _value(v, updates) for k, v in plain_options(self.param_groups[0]).items()}

    def update(self, params: Any, gradients: Any, state: State) -> tuple[Any, State]:
        """One update.

        Args:
            params: {name: array}.
            gradients: {name: array} of the same shapes and dtypes. Parameters without one stay as they are;
                gradients without a parameter are ignored.
            state: What `init` or the last `update` gave.

        Returns:
            New parameters, in the container class of `params`, and the new state.

        Raises:
            ShapeError, DTypeError: A gradient has another shape or dtype than its parameter.
            OptionError: No gradient is of a parameter; or the state is of other parameters, or of another optimizer.
        """
        named = with_gradients(type(self).__name__, params, gradients)
        new, new_state = dict(params), dict(state)
        for step, numbers, flags, names in self._together(named, params, state):
            slots = self.rule.state(flags)
            rows = [[raw(params[n]), raw(gradients[n]), *(raw(state[n][slot]) for slot in slots)] for n in names]
            scalars, counters = self._scalars(state[names[0]], step, numbers, params[names[0]])
            phase = self.rule.phase(self.options(step), step + 1) if step is not None else {}
            results = self._run([list(column) for column in zip(*rows, strict=True)], scalars, {**flags, **phase})
            for name, array, *arrays in zip(names, *results, strict=True):
                p = params[name]
                new[name] = like(p, array)
                if getattr(p, "requires_grad", False):  # a leaf of Tensors, or of PyTorch, as it was
                    new[name].requires_grad_()
                new_state[name] = {**counters, **{slot: like(p, a) for slot, a in zip(slots, arrays, strict=True)}}
        return same_container(params, new), new_state

    def _together(self, names: list[str], params: Any, state: State) -> list[tuple[int | None, tuple, dict, list[str]]]:
        """What is updated by one call of the rule: number of updates (None: traced), numbers, flags, names of parameters."""
        groups: dict[tuple, list[str]] = {}
        o = self._coded()
        flags = self.rule.flags(o)
        found: dict[int, int | None] = {}  # the counters are mostly one array for all
        for name in names:
            slots = self._slots(name, params, state)
            p, counter = raw(params[name]), slots.get("step")
            of_shape = {**flags, **self.rule.kind(tuple(p.shape), o)}
            self._check_state(name, slots, self.rule.state(of_shape), tuple(p.shape))
            if id(counter) not in found:
                found[id(counter)] = number(counter, int)
            step = found[id(counter)]
            numbers = tuple(number(slots[n], float) for n in self.rule.numbers)
            when: tuple = (step, numbers)
            if step is None or None in numbers:  # traced: known to be equal only where they are one
                when = (None, *(id(raw(slots[n])) for n in ("step", *self.rule.numbers)))
            groups.setdefault((when, type(p), p.dtype, tuple(of_shape.items())), []).append(name)
        if self.rule.per == "tree" and len(groups) > 1:
            if len({key[1:] for key in groups}) > 1 or any(when[0] is not None for when, *_ in groups):
                raise OptionError(
                    explain(
                        f"{type(self).__name__} updates all parameters together; these differ in dtype or in the number of updates",
                        do="give a gradient for each parameter at each update",
                    )
                )
            groups = {next(iter(groups)): [n for members in groups.values() for n in members]}
        return [
            (when[0], when[1] if when[0] is not None else (), dict(kind), members)
            for (when, _, _, kind), members in groups.items()
        ]

    def _slots(self, name: str, params: Any, state: State) -> dict[str, Any]:
        slots = state.get(name)
        if slots is None:
            raise OptionError(
                explain(
                    f"the state of {type(self).__name__} has no entry for the parameter '{name}'",
                    given=some(state),
                    do="give the state that init() of these parameters made",
                )
            )
        return slots

    def _check_state(self, name: str, slots: dict[str, Any], wanted: tuple, shape: tuple) -> None:
        known = {"step", *self.rule.numbers, *wanted}
        if known != slots.keys():
            raise OptionError(
                explain(
                    f"the state of the parameter '{name}' is not one of {type(self).__name__} with these options",
                    expected=some(known),
                    given=some(slots),
                    do="give the state that this optimizer's init() or update() made",
                )
            )
        for slot in wanted:
            if slot not in self.rule.start and tuple(slots[slot].shape) != shape:
                raise ShapeError(
                    explain(
                        f"the state '{slot}' of the parameter '{name}' has another shape than the parameter",
                        expected=list(shape),
                        given=list(slots[slot].shape),
                        do="give the state that init() of these parameters made",
                    )
                )

    def _run(self, columns: list[list], scalars: tuple, flags: dict) -> list[list]:
        if type(columns[0][0]) is not Value:
            backend = backend_of(columns[0][0])
            with backend().no_grad():
                if backend.mutable and self.rule.name in backend.fast:  # kernels write in place
                    columns = [c if k == 1 else [backend.copy(x) for x in c] for k, c in enumerate(columns)]
                return self.rule.run(columns, scalars, flags)
        return self.rule.run(columns, scalars, flags)

    def _scalars(self, slots: dict, step: int | None, numbers: tuple, p: Any) -> tuple[tuple, dict[str, Any]]:
        """The rule's scalars, and the counters after the update."""
        names = self.rule.numbers
        if step is not None and PLACE.graph is None:
            o = self.options(step)
            after = self.rule.numbers_after(HOST, o, step, numbers, 1)
            counters = {n: counter(p, float(x)) for n, x in zip(names, after, strict=True)}
            return self.rule.scalars(HOST, o, step + 1, *numbers), {"step": counter(p, step + 1), **counters}
        dtype = ops.dtype(raw(p))
        wide = float32 if dtype.itemsize == 2 else dtype  # 16 bits do not hold a count of 3000
        if PLACE.graph is None:
            xp, count, values = backend_of(raw(p)).xp, raw(slots["step"]), [raw(slots[n]) for n in names]
        else:  # Tensors, which have all operators
            xp, (count, *values) = ops.xp, (as_tensor(slots[n]) for n in ("step", *names))
        steps = xp.astype(count, dtype=wide)
        over, o = Over(xp, steps), self.options(steps)
        if PLACE.graph is not None:
            traced = {
                k: option(self.param_groups[0], k, wide) for k, v in o.items() if k not in self.coded and is_number(v)
            }
            o.update((k, as_tensor(v)) for k, v in traced.items())
        after = self.rule.numbers_after(over, o, steps, tuple(values), 1)
        counters = {n: like(slots[n], raw(a)) for n, a in zip(names, after, strict=True)}
        scalars = self.rule.scalars(over, o, steps + 1, *values)
        if wide is not dtype:
            scalars = tuple(xp.astype(s, dtype=dtype) if hasattr(s, "shape") else s for s in scalars)
        return tuple(map(raw, scalars)), {"step": like(slots["step"], raw(count + 1)), **counters}

    def _coded(self) -> dict[str, Any]:
        """The options, for what selects code: a schedule counts as a number that is not 0."""
        return {k: _value(v, None) for k, v in self.param_groups[0].items()}

    def __jit_key__(self) -> tuple:
        coded = ((k, str(self.param_groups[0][k])) for k in self.coded)
        return (*super().__jit_key__(), *coded, *self.rule.flags(self._coded()).items())


#: What of a group is not shown: options that choose a kernel or are PyTorch's own; and the Tensors of `Bound`.
UNUSED = ("foreach", "fused", "capturable", "differentiable", "params", "param_names")


def one_of(name: str, value: Any, other: str, given: Any, default: Any) -> Any:
    """The value of an option that has two names.

    Raises:
        OptionError: Both were given.
    """
    if given is None:
        return value
    if value is not default and value != default:
        raise OptionError(explain(f"{name}= and {other}= are one option", do="give one of them"))
    return given


def check_rate(value: Any) -> None:
    """Raises ValueError for a negative learning rate."""
    if not callable(value) and value < 0:
        raise ValueError(f"Invalid learning rate: {value}")


def is_number(value: Any) -> bool:
    """Whether an option is a number that a compiled step reads at each call. Integers (steps, sizes) select code."""
    return type(value) is float


def option(options: dict[str, Any], name: str, dtype: Any = None) -> Any:
    """An option; while gradloom.jit traces, a number is an input of the compiled function."""
    value = options[name]
    if PLACE.graph is None or not is_number(value):
        return value
    return PLACE.host_scalars(lambda: (float(options[name]),), (name,), dtype or default_dtype())[0]


def has_schedule(v: Any) -> bool:
    """Whether an option is a function of the number of updates, or has one in it."""
    return any(map(callable, v)) if type(v) is tuple else callable(v)


def _value(v: Any, updates: Any) -> Any:
    """An option for the update after `updates`; None for any but 0, where it is a schedule."""
    if type(v) is tuple:
        return tuple(_value(x, updates) for x in v)
    return (0.5 if updates is None else v(updates)) if callable(v) else v
