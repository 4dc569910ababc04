"""Drawings and summaries of models."""

import re
import shutil
import subprocess

import pytest

import gradloom as gl
from gradloom.errors import MissingExtraError, OptionError, ShapeError
from gradloom.models import Concat, Input, IOKey, Linear, Model, Relu
from gradloom.models.draw import dot, draw, mermaid
from gradloom.models.summary import Row, summary


def nested():
    """A model inside of a model, a shared layer, a parameter of the model's own, frozen parameters."""
    encoder = Model(name="encoder")
    encoder |= Linear(8)(input="image")
    encoder += Relu()
    encoder.freeze("*.bias")
    model = Model()
    model |= encoder(image="image", output="code")
    shared = Linear(8)
    model |= shared(input="code", output="h")
    model |= shared(input="h", output="again")
    scale = IOKey("scale", shape=[8], trainable=True)
    model |= Linear(2).freeze()(input=model["again"] * scale + 1, output="logits")
    return model


def several():
    model = Model()
    model |= Linear(4)(input="left", output="a")
    model |= Concat(axis=1)(input=["a", "right"], output="both")
    model.set_outputs("a")
    return model


# --------------------------------------------------------------------------------------------------------------- Mermaid


def test_mermaid_of_a_chain():
    model = Model()
    model |= Linear(4)
    model += Relu()
    assert (
        mermaid(model, {"input": [None, 3]})
        == """\
flowchart TD
  n0(["input"])
  n1["linear<br/>Linear"]
  n2["relu<br/>Relu"]
  n3(["output"])
  n0 -->|"[?, 3]"| n1
  n1 -->|"[?, 4]"| n2
  n2 -->|"[?, 4]"| n3
"""
    )


def test_mermaid_of_nested_models():
    assert (
        mermaid(nested(), {"image": [None, 5]})
        == """\
flowchart TD
  n0(["image"])
  n1[("scale")]
  n4["linear<br/>Linear"]
  n5["linear_1<br/>Linear"]
  n6["mul"]
  n7["add"]
  n8["linear_2<br/>Linear"]
  n9(["logits"])
  subgraph g0["encoder"]
    n2["linear<br/>Linear"]
    n3["relu<br/>Relu"]
  end
  n0 -->|"[?, 5]"| n2
  n2 -->|"[?, 8]"| n3
  n3 -->|"code [?, 8]"| n4
  n4 -->|"h [?, 8]"| n5
  n5 -->|"again [?, 8]"| n6
  n1 -->|"[8]"| n6
  n6 -->|"[?, 8]"| n7
  n7 -->|"[?, 8]"| n8
  n8 -->|"[?, 2]"| n9
  n4 -.-|"shared"| n5
"""
    )


def test_mermaid_of_several_inputs():
    assert (
        mermaid(several())
        == """\
flowchart TD
  n0(["left"])
  n1(["right"])
  n2["linear<br/>Linear"]
  n3["concat<br/>Concat"]
  n4(["a"])
  n5(["both"])
  n0 --> n2
  n2 -->|"a"| n3
  n1 --> n3
  n2 --> n4
  n3 --> n5
"""
    )


NASTY = 'a"]; <b>#x`end`\\ {|} & \u202e\n'


def nasty():
    return Relu(name=NASTY)


def test_labels_are_escaped():
    (line,) = [x for x in mermaid(nasty()).splitlines() if x.startswith("  n1[")]
    assert line == '  n1["a#34;]#59; #60;b#62;#35;x#96;end#96;#92; #123;#124;#125; #38; ?<br/><br/>Relu"]'
    (line,) = [x for x in dot(nasty()).splitlines() if x.startswith("  n1 [")]
    assert line == r'  n1 [shape=box, label="a\"]; <b>#x`end`\\ {|} &amp; ?\n\nRelu"];'


def test_models_that_cannot_be_compiled():
    with pytest.raises(ShapeError):
        mermaid(nested(), {"image": [None, 5], "code": [None, 9]})
    with pytest.raises(OptionError, match="no model or layer"):
        mermaid(gl.nn.ReLU())


# ------------------------------------------------------------------------------------------------------------- files


def test_text_files(tmp_path):
    model = several()
    assert draw(model) == mermaid(model) == draw(model, format="mermaid")
    assert draw(model, format="dot") == dot(model)
    draw(model, tmp_path / "model.mmd")
    assert (tmp_path / "model.mmd").read_text("utf-8") == mermaid(model)
    draw(model, str(tmp_path / "model.md"), shapes={"left": [2, 3]})
    assert (tmp_path / "model.md").read_text("utf-8") == f"```mermaid\n{mermaid(model, {'left': [2, 3]})}```\n"
    for name in ("model.dot", "model.gv"):
        draw(model, tmp_path / name)
        assert (tmp_path / name).read_text("utf-8") == dot(model)
    draw(model, tmp_path / "model.txt", format="dot")
    assert (tmp_path / "model.txt").read_text("utf-8") == dot(model)


def test_formats_that_are_not_there(tmp_path):
    with pytest.raises(OptionError, match=r"there is no such format of drawings[\s\S]*did you mean 'svg'\?"):
        draw(several(), tmp_path / "model.svgz")
    with pytest.raises(OptionError, match="a path without an ending"):
        draw(several(), tmp_path / "model")
    with pytest.raises(OptionError, match="a drawing as svg needs a path"):
        draw(several(), format="svg")
    assert not list(tmp_path.iterdir())


def test_graphviz_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingExtraError) as error:
        draw(several(), tmp_path / "model.svg")
    assert "the program 'dot', which is not installed" in str(error.value)
    assert "do:       install 'graphviz' from your system's packages" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_graphviz_fails(tmp_path, monkeypatch):
    failing = tmp_path / "dot"
    failing.write_text("#!/bin/sh\necho 'out of ideas' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(failing))
    with pytest.raises(OptionError, match="out of ideas"):
        draw(several(), tmp_path / "model.svg")
    assert not (tmp_path / "model.svg").exists()


@pytest.mark.skipif(shutil.which("dot") is None, reason="the program 'dot' of Graphviz is not installed")
@pytest.mark.parametrize("make", [nested, several, nasty], ids=lambda f: f.__name__)
def test_graphviz_draws(make, tmp_path):
    model = make()
    draw(model, tmp_path / "model.svg")
    svg = (tmp_path / "model.svg").read_text("utf-8")
    assert "<svg" in svg and svg.count('class="node"') == len(re.findall(r"^ +n\d+ \[", dot(model), re.MULTILINE))
    draw(model, tmp_path / "model.png")
    assert (tmp_path / "model.png").read_bytes().startswith(b"\x89PNG")
    plain = subprocess.run(["dot", "-Tplain"], input=dot(model).encode(), capture_output=True, check=True)
    assert plain.stderr == b""


# ----------------------------------------------------------------------------------------------------------- summary


def test_summary():
    assert (
        str(summary(nested(), shapes={"image": [None, 5]}))
        == """\
Inputs:  image [?, 5]
Outputs: logits [?, 2]

Layer           Class         Shapes                Parameters               Count  Notes
--------------  ------------  --------------------  -----------------------  -----  -------------
scale           parameter     [8]                                                8
encoder.linear  Linear        [?, 5] → [?, 8]       weight [8, 5], bias [8]     48  bias frozen
encoder.relu    Relu          [?, 8] → [?, 8]
linear          Linear        [?, 8] → [?, 8]       weight [8, 8], bias [8]     72
linear_1        Linear        [?, 8] → [?, 8]                                       shares linear
mul             operator mul  [?, 8], [8] → [?, 8]
add             operator add  [?, 8] → [?, 8]
linear_2        Linear        [?, 8] → [?, 2]       weight [2, 8], bias [2]     18  frozen

146 parameters, 120 of them trained, 584 bytes\
"""
    )


def test_summary_without_shapes():
    assert (
        repr(summary(nested()))
        == """\
Inputs:  image ?
Outputs: logits ?

Layer           Class         Shapes      Parameters        Count  Notes
--------------  ------------  ----------  ----------------  -----  -------------
scale           parameter     [8]                               8
encoder.linear  Linear        ? → ?       weight ?, bias ?      ?  bias frozen
encoder.relu    Relu          ? → ?
linear          Linear        ? → ?       weight ?, bias ?      ?
linear_1        Linear        ? → ?                                shares linear
mul             operator mul  ?, [8] → ?
add             operator add  ? → ?
linear_2        Linear        ? → ?       weight ?, bias ?      ?  frozen

The number of parameters is not known: give shapes of the inputs.\
"""
    )


def test_summary_is_cut_to_the_width():
    for width in (40, 60, 80, 100, 200):
        text = summary(nested(), {"image": [None, 5]}, width=width)
        assert max(map(len, text.splitlines())) <= width
        assert ("…" in text) == (width < 100)
    with pytest.raises(OptionError, match="a summary needs columns"):
        summary(nested(), width=10)


def test_summary_as_data():
    made = summary(nested(), shapes={"image": [None, 5]})
    assert made.rows[0] == Row("scale", "parameter", (), ((8,),), {}, 8, (), None)
    assert made.rows[1] == Row(
        "encoder.linear", "Linear", ((None, 5),), ((None, 8),), {"weight": (8, 5), "bias": (8,)}, 48, ("bias",), None
    )
    assert made.rows[4].shared == "linear"
    assert made.totals == {"parameters": 146, "trainable": 120, "bytes": 584}
    assert isinstance(made, str)


def test_summary_counts_what_is_compiled():
    model = nested()
    compiled = gl.compile(model, "numpy", shapes={"image": [3, 5]})
    made = summary(compiled)
    assert made.totals["parameters"] == sum(p.size for p in compiled.get_parameters().values())
    assert made.rows[1].inputs == ((3, 5),)
    double = summary(model, {"image": [3, 5]}, backend=gl.NumpyBackend(dtype="float64"))
    assert double.totals["bytes"] == 2 * made.totals["bytes"]
    with pytest.raises(OptionError, match="a compiled model has its own shapes"):
        summary(compiled, {"image": [3, 5]})


def test_summary_of_other_things():
    module = gl.nn.Sequential(gl.nn.Linear(3, 4), gl.nn.ReLU())
    assert summary(module).totals["parameters"] == 16
    assert summary(Relu()).totals == {"parameters": 0, "trainable": 0, "bytes": 0}
    assert summary(Linear(2), {"input": [None, 3]}).rows[0].path == "linear"
    made = summary(Model.create(y=Input("x") * IOKey("w", trainable=True, value=2.0)))
    assert made.rows[0].count == 1
    with pytest.raises(OptionError, match="a summary is of a model"):
        summary(3)
