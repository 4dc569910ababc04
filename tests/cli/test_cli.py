"""The command line as it is typed: each command in a process of its own."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import gradloom as gl
from gradloom.cli.config import NAMES, ConfigError, load_config, override
from gradloom.cli.engines import check, table
from gradloom.models.document import save_model

SRC = str(Path(__file__).parents[2] / "src")

CONFIG = """\
seed = 1
metrics = ["Accuracy", "ConfusionMatrix"]
loss = "CrossEntropyLoss"

[data]
source = "rows.csv"
batch_size = 16

[model]
layers = [{layer = "Linear", dimension = 8}, "Relu", {layer = "Dropout", p = 0.2}, {layer = "Linear", dimension = 3}]

[optimizer]
name = "Adam"
lr = 0.01

[scheduler]
name = "ExponentialLR"
gamma = 0.9

[training]
epochs = 4
"""


def environment():
    return os.environ | {"PYTHONPATH": os.pathsep.join([SRC, os.environ.get("PYTHONPATH", "")])}


def gradloom(*words, cwd, status=0):
    """(stdout, stderr) of a command; its exit status has to be the given one."""
    done = subprocess.run(
        [sys.executable, "-m", "gradloom", *map(str, words)],
        cwd=cwd, env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == status, (
        f"{words} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    )
    return done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    kinds = np.array(["apple", "pear", "plum"])[np.argmax(x[:, :3], 1)]
    with open(tmp_path / "rows.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "c", "d", "kind"])
        writer.writerows([*map(repr, map(float, row)), kind] for row, kind in zip(x, kinds, strict=True))
    (tmp_path / "c.toml").write_text(CONFIG)
    return tmp_path


def rows(file):
    with open(file, newline="") as lines:
        return list(csv.DictReader(lines))


# --- train


def test_train_leaves_a_run_folder_that_the_other_commands_read(folder):
    out, _ = gradloom("train", "c.toml", "training.epochs=8", "optimizer.learning_rate=0.05", cwd=folder)
    assert "epoch 8/8" in out and out.rstrip().endswith("run folder: runs/c")
    run = folder / "runs" / "c"
    found = rows(run / "metrics.csv")
    assert [r["epoch"] for r in found] == [str(n) for n in range(1, 9)]
    assert float(found[-1]["val_accuracy"]) > 0.85
    assert float(found[0]["lr"]) == 0.05
    confusion = json.loads((run / "confusion.json").read_text())
    assert confusion["labels"] == ["apple", "pear", "plum"]
    assert sum(map(sum, confusion["matrix"])) == 40  # a fifth of 200
    layers = json.loads((run / "model.json").read_text())
    assert [(r["name"], r["output"], r["parameters"]) for r in layers["layers"]] == [
        ("linear", [None, 8], 40), ("relu", [None, 8], 0), ("dropout", [None, 8], 0), ("linear_1", [None, 3], 27),
    ]  # fmt: skip
    assert "# backward" in (run / "step.py").read_text()
    info = json.loads((run / "run.json").read_text())
    assert (info["status"], info["epochs"], info["steps"], info["backend"]) == ("finished", 8, 80, "numpy")
    assert load_config(run / "config.toml", []).values["training"]["epochs"] == 8

    out, _ = gradloom("report", "runs/c", "--out", "page.html", cwd=folder)
    assert out.strip() == "page.html" and "<h1>c</h1>" in (folder / "page.html").read_text()
    out, _ = gradloom("summary", "runs/c", cwd=folder)
    assert "67 parameters, 67 of them trained, 268 bytes" in out and "linear_1  Linear   ? × 3" in out
    out, _ = gradloom("plot", "runs/c", "runs/c", "--out", "two.png", "--metric", "loss", cwd=folder)
    assert (folder / "two.png").read_bytes().startswith(b"\x89PNG")
    _, err = gradloom("plot", "runs/c", "--metric", "val_los", cwd=folder, status=1)
    assert "no run has the log 'val_los'" in err and "did you mean 'val_loss'?" in err
    _, err = gradloom("train", "c.toml", cwd=folder, status=2)
    assert "the run folder holds a run" in err and "--resume" in err
    # What is no run of ours stays.
    (run / "notes.txt").write_text("mine")
    gradloom("train", "c.toml", "--overwrite", "training.epochs=1", cwd=folder)
    assert len(rows(run / "metrics.csv")) == 1 and (run / "notes.txt").read_text() == "mine"


def test_a_run_that_is_killed_goes_on_bit_for_bit(folder):
    gradloom("train", "c.toml", "--run-dir", "whole", "training.epochs=40", cwd=folder)
    words = ["train", "c.toml", "--run-dir", "cut", "training.epochs=40"]
    process = start(words, folder)
    wait_for(lambda: lines(folder / "cut" / "metrics.csv") > 3, process)
    process.kill()
    process.wait()
    assert lines(folder / "cut" / "metrics.csv") < 41, "it was too fast to be killed"
    out, _ = gradloom(*words, "--resume", cwd=folder)
    assert "resumed after epoch" in out
    assert (folder / "cut" / "metrics.csv").read_bytes() == (folder / "whole" / "metrics.csv").read_bytes()
    weights = [gl.load(folder / name / "checkpoints" / "last.safetensors")["model"] for name in ("cut", "whole")]
    for name in weights[0]:
        assert (weights[0][name].numpy() == weights[1][name].numpy()).all(), name
    times = json.loads((folder / "cut" / "timing.json").read_text())["epochs"]
    assert [t["epoch"] for t in times] == list(range(1, 41))
    # A finished run has nothing left to do; more epochs are added to it.
    gradloom(*words, "--resume", cwd=folder)
    assert (folder / "cut" / "metrics.csv").read_bytes() == (folder / "whole" / "metrics.csv").read_bytes()
    assert json.loads((folder / "cut" / "model.json").read_text())["layers"][0]["output"] == [None, 8]
    gradloom("train", "c.toml", "--run-dir", "cut", "training.epochs=42", "--resume", cwd=folder)
    assert lines(folder / "cut" / "metrics.csv") == 43


def test_ctrl_c_saves_in_the_middle_of_an_epoch_and_ends_with_130(folder):
    words = ["train", "c.toml", "training.epochs=60", "data.batch_size=2"]
    gradloom(*words, "--run-dir", "whole", cwd=folder)
    process = start([*words, "--run-dir", "cut"], folder)
    wait_for(lambda: lines(folder / "cut" / "metrics.csv") > 2, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    assert "stopped: interrupted by Ctrl-C" in out and "interrupted.safetensors; go on with --resume" in out
    assert json.loads((folder / "cut" / "run.json").read_text())["status"] == "interrupted"
    assert (folder / "cut" / "checkpoints" / "interrupted.safetensors").exists()
    gradloom(*words, "--run-dir", "cut", "--resume", cwd=folder)
    assert (folder / "cut" / "metrics.csv").read_bytes() == (folder / "whole" / "metrics.csv").read_bytes()
    assert json.loads((folder / "cut" / "run.json").read_text())["status"] == "finished"


def start(words, cwd):
    return subprocess.Popen(
        [sys.executable, "-m", "gradloom", *words], cwd=cwd, env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(done, process):
    until = time.monotonic() + 120
    while not done():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)


def lines(file):
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_a_script_gets_its_arguments_the_backend_and_the_folder(folder):
    (folder / "beside.py").write_text("word = 'beside'")
    (folder / "s.py").write_text(
        "import sys, beside, gradloom as gl\n"
        "from gradloom.training.callbacks import CallbackList, RunFolder\n"
        "print(sys.argv, __name__, beside.word, gl.get_backend().name)\n"
        "callbacks = CallbackList([RunFolder()])\n"
        "callbacks.on_train_begin(); callbacks.on_epoch_end(0, {'train_loss': 0.5}); callbacks.on_train_end()\n"
        "if '--fail' in sys.argv: gl.ones(2) @ gl.ones(3)\n"
        "sys.exit(7)\n"
    )
    pytest.importorskip("torch")
    words = ("train", "--backend", "torch", "--run-dir", "here", "s.py", "--epochs", "3", "a=b")
    out, _ = gradloom(*words, cwd=folder, status=7)
    assert out == "['s.py', '--epochs', '3', 'a=b'] __main__ beside torch\n"
    assert (folder / "here" / "metrics.csv").read_text() == "epoch,train_loss\n1,0.5\n"
    _, err = gradloom("train", "s.py", "--fail", cwd=folder, status=1)
    assert "Traceback" in err and 's.py", line 6' in err
    _, err = gradloom("train", "--resume", "s.py", cwd=folder, status=2)
    assert "--resume is for TOML files" in err
    _, err = gradloom("train", "none.py", cwd=folder, status=2)
    assert "there is no such script" in err


def test_every_engine_trains(folder, backend):
    gradloom("train", "c.toml", "--backend", backend, "training.epochs=1", cwd=folder)
    info = json.loads((folder / "runs" / "c" / "run.json").read_text())
    assert (info["backend"], info["status"]) == (backend, "finished")


def test_regression_from_arrays_by_steps(folder):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 2, 3)) * 5 + 2
    np.savez(folder / "a.npz", pictures=x, y=x.sum((1, 2)) / 5)
    (folder / "r.toml").write_text(
        'loss = "MSELoss"\noptimizer = "Adam"\n[data]\nsource = "a.npz"\ninputs = "pictures"\nshape = [6]\nstandardize = true\n'
        'validation = 0\n[model]\nlayers = [{layer = "Linear", dimension = 1}]\n[training]\nsteps = 300\n'
    )
    gradloom("train", "r.toml", "optimizer.lr=0.1", cwd=folder)
    found = rows(folder / "runs" / "r" / "metrics.csv")
    assert list(found[0]) == ["epoch", "train_loss", "lr"]
    assert float(found[-1]["train_loss"]) < 0.05 * float(found[0]["train_loss"])


# --- errors


@pytest.mark.parametrize(
    ("word", "texts"),
    [
        ("sede=3", ["the key 'sede' is unknown", "where:    c.toml", "did you mean 'seed'?"]),
        ("data.bach_size=3", ["'bach_size' is unknown", "[data] in c.toml", "did you mean 'batch_size'?"]),
        ("training.epoch=3", ["'epoch' is unknown", "did you mean 'epochs'?"]),
        ("optimizer.name=Adm", ["the optimizer 'Adm' is unknown", "did you mean 'Adam'?"]),
        ("optimizer.learning_rat=1.0", ["the option of Adam 'learning_rat'", "did you mean 'learning_rate'?"]),
        ("optimizer={name = 'Adam', lr = 1.0, learning_rate = 1.0}", ["'lr' and 'learning_rate' are the same"]),
        ("optimizer.lr=fast", ["Adam: 'lr' has a value of another type", "expected: float", "given:    'fast'"]),
        ("optimizer.lr=-1.0", ["[optimizer] in c.toml"]),
        ("scheduler.gama=1", ["the option of ExponentialLR 'gama'", "did you mean 'gamma'?"]),
        ("scheduler={name = 'StepLR'}", ["StepLR needs step_size"]),
        ("scheduler.every=week", ["'epoch' or 'step'"]),
        ("loss=CrossEntropy", ["the loss 'CrossEntropy'", "did you mean 'CrossEntropyLoss'?"]),
        ("metrics=['Acuracy']", ["the metric 'Acuracy'", "[metrics.0] in c.toml", "did you mean 'Accuracy'?"]),
        ("callbacks=[{name = 'EarlyStoping'}]", ["the callback 'EarlyStoping'", "did you mean 'EarlyStopping'?"]),
        ("callbacks=['os.system']", ["the callback 'os.system' is unknown"]),
        ("model.layers.0.layer=Liner", ["the layer 'Liner'", "[model.layers.0]", "did you mean 'Linear'?"]),
        ("model.layers.0.dimensoin=3", ["the option of Linear 'dimensoin'", "did you mean 'dimension'?"]),
        ("model.layers.9.dimension=3", ["there is no 'model.layers.9'", "0 to 3"]),
        ("model.file=net.json", ["a model is layers or a file"]),
        ("data.source=digit", ["the source 'digit'", "did you mean 'digits'?"]),
        ("data.target=kin", ["there is no column 'kin'", "did you mean 'kind'?"]),
        ("data.inputs=['a', 'kind']", ["row 2 of rows.csv: 'kind' is no number"]),
        ("data.source=none.csv", ["none.csv cannot be read: No such file"]),
        ("data.validation=2.0", ["'validation' is a share"]),
        ("data.shape=[5]", ["the inputs do not have that shape", "a shape of 4 numbers"]),
        ("training.epochs=many", ["'epochs' has a value of another type", "expected: int"]),
        ("epochs", ["that is no setting", "key=value"]),
    ],
)
def test_what_is_asked_wrongly(folder, monkeypatch, capsys, word, texts):
    from gradloom.cli import main

    monkeypatch.chdir(folder)
    assert main(["train", "c.toml", word]) == 2
    err = capsys.readouterr().err
    for text in ["gradloom: ", *texts]:
        assert text in err, err
    assert not (folder / "runs").exists(), "nothing is written before all is checked"


def test_usage(folder):
    for words, text in [
        ((), "COMMAND"), (("trian",), "invalid choice: 'trian'"), (("train",), "what"),
        (("train", "c.toml", "--backend", "numpi"), "invalid choice: 'numpi'"),
        (("train", "c.txt"), "a .py or a .toml file"), (("train", "none.toml"), "none.toml cannot be read"),
        (("train", "c.toml", "--resume"), "there is no checkpoint to go on from"),
        (("summary", "rows.csv"), "rows.csv cannot be read"),
    ]:  # fmt: skip
        assert text in gradloom(*words, cwd=folder, status=2)[1]
    (folder / "bad.toml").write_text("seed = \n")
    assert "bad.toml is no TOML: Invalid value (at line 1" in gradloom("train", "bad.toml", cwd=folder, status=2)[1]
    assert "there is no such run folder" in gradloom("report", "nowhere", cwd=folder, status=1)[1]
    (folder / "empty").mkdir()
    assert "the folder has no metrics" in gradloom("report", "empty", cwd=folder, status=1)[1]
    assert gradloom("--version", cwd=folder)[0] == f"gradloom {gl.__version__}\n"


def test_overrides_make_tables_and_take_toml():
    values = {"optimizer": "Adam", "list": [{"a": 1}]}
    for word in ["optimizer.lr=1e-3", "list.0.a=[1, 2]", "data.source=my file.csv", "run='x'", "flag=true"]:
        override(values, word)
    assert values == {
        "optimizer": {"name": "Adam", "lr": 1e-3}, "list": [{"a": [1, 2]}], "data": {"source": "my file.csv"},
        "run": "x", "flag": True,
    }  # fmt: skip
    with pytest.raises(ConfigError, match="'run' is no table"):
        override({"run": 3}, "run.x.y=1")


def test_names_are_classes_of_gradloom():
    for kind, found in NAMES.items():
        assert found, kind
        for name, cls in found.items():
            assert cls.__name__ == name and cls.__module__.startswith("gradloom."), (kind, name)


# --- summary, backends


def test_summary_of_settings_and_of_a_document(folder):
    out, _ = gradloom("summary", "c.toml", cwd=folder)
    assert "linear    Linear   [?, 4] → [?, 8]" in out and "67 parameters" in out
    net = gl.models.Model()
    net |= gl.models.Linear(3)
    net += gl.models.Relu()
    save_model(net, folder / "net.json")
    assert "weight" in gradloom("summary", "net.json", cwd=folder)[0]
    (folder / "c2.toml").write_text(CONFIG.replace("layers = [{layer", "file = 'net.json' # [{layer"))
    assert "[?, 4] → [?, 3]" in gradloom("summary", "c2.toml", cwd=folder)[0]


def test_backends_says_what_works(folder, backend):
    found = check(backend, 120)
    assert found.works and found.version and "cpu" in found.devices and not found.fault
    assert found.float64
    assert gradloom("backends", "--help", cwd=folder)[0].startswith("usage: gradloom backends")


def test_an_engine_that_breaks_or_hangs_is_a_line(monkeypatch, tmp_path):
    assert "no answer in 0.01 s" in table([check("numpy", 0.01)])
    monkeypatch.setattr("gradloom.cli.engines.version_of", lambda name: "" if name == "mlx" else "1.0")
    missing = check("mlx", 1)
    assert not missing.works and missing.fault == "pip install 'gradloom[mlx]'"
    # An engine whose import ends the process.
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("import os; os._exit(134)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    broken = check("jax", 60)
    assert not broken.works and broken.fault.startswith("ended with status 134")
    lines = table([missing, broken]).splitlines()
    assert lines[1].split()[:4] == ["mlx", "not", "installed", "no"]


def test_backends_command(folder):
    out, _ = gradloom("backends", cwd=folder)
    head, first, *_ = out.splitlines()
    assert head.split() == ["backend", "version", "works", "float64", "devices"]
    assert first.split() == ["numpy", np.__version__, "yes", "yes", "cpu"]
