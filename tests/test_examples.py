"""The examples run as a reader would run them: as programs, in a folder of their own."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gradloom as gl

ROOT = Path(__file__).parents[1]


def run(name, *options, cwd, status=0):
    """The output of an example; its exit status has to be the given one."""
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *map(str, options)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == status, (
        f"{name} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    )
    return done.stdout


def metrics(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_digits_leaves_a_run_folder(backend, tmp_path):
    text = run("digits.py", "--backend", backend, "--epochs", 1, cwd=tmp_path)
    assert "epoch 1/1" in text and "\x1b" not in text  # no terminal: plain lines
    folder = tmp_path / "runs" / f"digits-{backend}"
    assert {p.name for p in folder.iterdir()} == {
        "metrics.csv", "loss_curve.png", "checkpoint.safetensors", "step.py", "report.html", "run.json", "config.toml",
        "model.json", "confusion.json", "timing.json",
    }  # fmt: skip
    (row,) = metrics(folder)
    assert list(row) == ["epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr"]
    assert float(row["train_loss"]) < 1.5
    assert float(row["val_accuracy"]) > 0.5
    assert (folder / "loss_curve.png").read_bytes().startswith(b"\x89PNG")
    source = (folder / "step.py").read_text()
    assert "def training_step(" in source and "# backward" in source
    compile(source, "step.py", "exec")
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert f"<h1>digits-{backend}</h1>" in report and "Confusion matrix" in report
    saved = gl.load(folder / "checkpoint.safetensors")
    assert saved["model"]["0.weight"].shape == (16, 1, 3, 3)
    assert saved["model"]["1.num_batches_tracked"].item() == 1437 // 64


@pytest.mark.slow
def test_digits_learns_resumes_and_runs_eagerly(tmp_path):
    run("digits.py", "--out", "run", "--seed", 1, cwd=tmp_path)
    rows = metrics(tmp_path / "run")
    assert len(rows) == 10
    assert float(rows[-1]["val_accuracy"]) >= 0.97
    # A finished run has nothing left to do; another epoch is added to it.
    assert "resumed after epoch 10" in run("digits.py", "--out", "run", "--seed", 1, "--resume", cwd=tmp_path)
    assert metrics(tmp_path / "run") == rows
    run("digits.py", "--out", "run", "--seed", 1, "--resume", "--epochs", 11, "--eager", cwd=tmp_path)
    more = metrics(tmp_path / "run")
    assert [row["epoch"] for row in more] == [str(n) for n in range(1, 12)]
    assert float(more[-1]["train_loss"]) < 2 * float(rows[-1]["train_loss"])  # weights and optimizer were taken over


def test_compare_engines_on_numpy(tmp_path):
    text = run("compare_engines.py", "--steps", 5, "--backends", "numpy", cwd=tmp_path)
    assert "0.0e+00 at step 1 " in text  # a rerun on one engine is bit-equal


@pytest.mark.slow
def test_compare_engines(tmp_path):
    text = run("compare_engines.py", "--steps", 30, cwd=tmp_path)
    assert "BEYOND" not in text


def test_compare_engines_beyond_the_limit(tmp_path):
    pytest.importorskip("torch")
    text = run("compare_engines.py", "--steps", 10, "--tolerance", 0, "--backends", "torch", cwd=tmp_path, status=1)
    assert "BEYOND THE LIMIT" in text


def test_the_source_in_the_readme_is_what_the_example_there_emits():
    pytest.importorskip("jax")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (shown,) = (block for block in blocks if block.startswith("def step(p, s"))
    (example,) = (block for block in blocks if "@gl.jit" in block)
    with gl.using_backend("jax"):
        found = {}
        exec(compile(example, "README.md", "exec"), found)
    assert found["step"].source.rstrip().endswith(shown.rstrip()), "paste the new text into README.md"


def test_classical_models_are_as_good_as_scikit_learns(backend, tmp_path):
    text = run("classical.py", "--backend", backend, "--steps", 100 if backend == "mlx" else 300, cwd=tmp_path)
    rows = re.findall(
        r"(linear SVM|logistic regression|kernel ridge) .*?(?:accuracy|R2) ([\d.]+)  scikit-learn ([\d.]+)", text
    )
    assert len(rows) == 3, text
    for name, ours, theirs in rows:
        assert float(ours) > float(theirs) - 0.03, (name, ours, theirs)


@pytest.mark.slow
def test_cross_validation(backend, tmp_path):
    text = run("cross_validation.py", "--backend", backend, "--folds", 3, "--epochs", 4, cwd=tmp_path)
    accuracies = [float(a) for a in re.findall(r"fold \d: .*val_accuracy ([\d.]+)", text)]
    assert len(accuracies) == 3 and min(accuracies) > 0.85
    assert re.search(rf"accuracy {sum(accuracies) / 3:.3f}\d ± 0\.\d+", text), text


def test_grid_search(tmp_path):
    pytest.importorskip("sklearn")
    grid, drawn = (
        run("grid_search.py", cwd=tmp_path),
        run("grid_search.py", "--random", 2, "--workers", 2, cwd=tmp_path),
    )
    assert len(re.findall(r"trial \d: val_loss", grid)) == 8 and len(re.findall(r"trial \d: val_loss", drawn)) == 2
    best = min(re.findall(r"trial \d: val_loss ([\d.]+)", grid), key=float)
    assert f"val_loss {best}\n" in grid.partition("best: ")[2]
    assert float(re.search(r"test accuracy ([\d.]+)", grid)[1]) > 0.9


def numbers(line):
    return [float(n) for n in re.findall(r"\d+\.\d+", line)]


@pytest.mark.slow
def test_a_gan_learns_the_ring(backend, tmp_path):
    lines = run("gan.py", "--backend", backend, "--quick", cwd=tmp_path).splitlines()
    (first, _), (last, covered) = numbers(lines[0]), numbers(lines[-1])
    assert first > 1 and last < 0.25 and covered > 0.8, lines


@pytest.mark.slow
def test_contrastive_learning_finds_features(backend, tmp_path):
    loss, accuracy = map(numbers, run("self_supervised.py", "--backend", backend, "--quick", cwd=tmp_path).splitlines())
    assert loss[1] < 0.7 * loss[0]
    assert accuracy[1] > accuracy[0] + 0.03


@pytest.mark.slow
def test_early_stopping(backend, tmp_path):
    text = run("early_stopping.py", "--backend", backend, "--quick", "--out", "run", cwd=tmp_path)
    reason, last = text.splitlines()[-2:]
    assert reason.startswith("EarlyStopping: val_loss has not improved on")
    rows = metrics(tmp_path / "run")
    losses = [float(row["val_loss"]) for row in rows]
    best = int(re.search(r"epoch (\d+):", last)[1])
    assert min(losses) == losses[best] and len(rows) == best + 6
    assert numbers(last)[0] > 0.75
    assert gl.load(tmp_path / "run" / "best.safetensors")["epoch"] == best + 1
    assert list((tmp_path / "run").rglob("*tfevents*"))
