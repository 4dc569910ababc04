"""The error types are caught as users expect, and messages have one shape."""

import os
import threading

import pytest

from gradloom import errors
from gradloom.errors import GradloomError, explain, user_frame


@pytest.mark.parametrize(
    ("name", "bases"),
    [
        ("ShapeError", (ValueError, RuntimeError)),
        ("DTypeError", (TypeError, RuntimeError)),
        ("BackendError", (RuntimeError,)),
        ("MissingExtraError", (ImportError,)),
        ("GradientError", (RuntimeError,)),
        ("TraceError", (RuntimeError,)),
        ("IndexOutOfRangeError", (IndexError,)),
        ("FileFormatError", (ValueError,)),
        ("DataError", (RuntimeError,)),
        ("OptionError", (ValueError,)),
    ],
)
def test_errors_are_also_the_builtin_that_users_catch(name, bases):
    error = getattr(errors, name)
    for base in (*bases, GradloomError):
        with pytest.raises(base, match="what went wrong"):
            raise error("what went wrong")


def test_explain_shows_only_what_is_given():
    assert explain("bad") == "bad"
    assert explain("bad", expected="", where=None) == "bad"
    assert explain("bad", given=0) == "bad\n  given:    0"
    assert explain("bad", do="this", where="net.0", given="(2,)", expected="(3,)").splitlines() == [
        "bad",
        "  expected: (3,)",
        "  given:    (2,)",
        "  where:    net.0",
        "  do:       this",
    ]


def test_explain_indents_further_lines():
    assert explain("bad", do="one\ntwo") == "bad\n  do:       one\n            two"


def call_from(filename, function=user_frame, name="inner"):
    """Calls the function from a frame that claims to be in this file."""
    scope = {"function": function}
    exec(compile(f"def {name}():\n    return function()", filename, "exec"), scope)
    return scope[name]()


def test_user_frame_names_this_line():
    frame = user_frame()
    assert frame.startswith(f"{__file__}:")
    assert frame.endswith("in test_user_frame_names_this_line: frame = user_frame()")


def test_user_frame_skips_the_package_and_emitted_source():
    package = os.path.dirname(errors.__file__)
    inside = os.path.join(package, "tensor", "tape.py")
    for filename in ("<gradloom step>", "<gradloom>", inside):
        assert call_from(filename).endswith("in call_from: return scope[name]()")
    beside = package + "_tools/x.py"  # starts like the package's folder, is another
    assert call_from(beside) == f"{beside}:2 in inner"


def test_user_frame_skips_more_on_request(tmp_path):
    filename = str(tmp_path / "framework.py")
    assert call_from(filename) == f"{filename}:2 in inner"
    frame = call_from(filename, lambda: user_frame([str(tmp_path), os.path.dirname(__file__)]))
    assert __file__ not in frame and filename not in frame


def test_user_frame_without_a_user():
    found = []
    everything = ["/" if os.name == "posix" else os.path.splitdrive(__file__)[0]]
    thread = threading.Thread(target=lambda: found.append(user_frame(everything)))
    thread.start()
    thread.join()
    assert found == [""]
