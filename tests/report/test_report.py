"""The report: its structure as HTML, its numbers, and what a browser makes of it."""

import importlib.util
import io
import json
import re
import struct
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import gradloom as gl
from gradloom.errors import FileFormatError, OptionError
from gradloom.report import page, read_run, write_report
from gradloom.report.page import WHITE_FROM
from gradloom.report.style import STYLE
from gradloom.report.svg import Series, line_chart, log_ticks, nice_ticks, whole_ticks
from gradloom.training import TrainingLoop
from gradloom.training.callbacks import CallbackList, Profiler, RunFolder
from gradloom.training.callbacks.toml import toml_text
from gradloom.training.metrics import Accuracy, ConfusionMatrix

_spec = importlib.util.spec_from_file_location("report_browser", Path(__file__).with_name("browser.py"))
browser = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(browser)

EVIL = "<script>alert('x')</script>&\"'"
VOID = {"meta", "link", "input", "br", "img", "hr"}
SVG_EMPTY = {"line", "circle", "polyline", "rect"}


class Parsed(HTMLParser):
    """A page taken apart: tags with attributes, texts by tag, and faults in nesting."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.texts, self.faults = [], [], {}, []
        self.feed(text)
        self.close()
        if self.open:
            self.faults.append(f"not closed: {self.open}")

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in SVG_EMPTY:
            self.faults.append(f"<{tag}/>")

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}>")

    def handle_data(self, data):
        for tag in self.open:
            self.texts.setdefault(tag, []).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def text(self, tag):
        return " ".join("".join(self.texts.get(tag, [])).split())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder of a real run, with names that would do harm if they were not escaped."""
    folder = tmp_path_factory.mktemp("runs") / "first run"
    generator = np.random.default_rng(0)
    x = generator.normal(size=(96, 4)).astype("float32")
    y = x[:, :3].argmax(1)
    gl.manual_seed(0)
    model = gl.nn.Sequential(gl.nn.Linear(4, 16), gl.nn.ReLU(), gl.nn.Dropout(0.1), gl.nn.Linear(16, 3))
    loop = TrainingLoop(
        model,
        gl.optim.Adam(model.parameters(), lr=0.02),
        loss_fn=gl.nn.CrossEntropyLoss(),
        metrics=[Accuracy(), ConfusionMatrix(num_classes=3)],
        callbacks=[Profiler(file=False), RunFolder(folder, config={"note": EVIL}, labels=["apple", "pear", EVIL])],
    )
    batches = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 64, 16)]
    loop.fit(batches, [(x[64:], y[64:])], epochs=6)
    return folder, loop


def test_the_page_is_sound_html_and_holds_the_numbers(trained):
    folder, loop = trained
    file = write_report(folder)
    assert file == folder / "report.html"
    text = file.read_text(encoding="utf-8")
    parsed = Parsed(text)
    assert not parsed.faults
    assert parsed.text("h1") == "first run" and parsed.text("title").startswith("first run – gradloom report")
    assert [
        h
        for h in ("Curves", "Time", "Confusion matrix", "Model", "Training step", "Settings")
        if h not in parsed.text("h2")
    ] == []
    body = parsed.text("main")
    history = loop.history
    epoch, best = history.best("val_loss")
    assert f"{best:.4g} best val_loss epoch {epoch + 1}" in body or f"{best:.4g}best val_lossepoch {epoch + 1}" in body
    assert "6 epochs · 24 steps · on numpy" in body and "finished" in body
    for name in ("train_loss", "val_loss", "train_accuracy", "val_accuracy", "lr"):
        # Every value is in the chart's data, for the pointer; and as a dot with a title.
        series = [
            s
            for c in parsed.all("svg")
            if "data-chart" in c
            for s in json.loads(c["data-chart"])["s"]
            if s["n"] == name
        ]
        assert series[0]["v"] == [f"{v:.4g}" for v in history[name]], name
        assert f"epoch 1: {name} {history[name][0]:.4g}" in parsed.text("circle")
    matrix = np.array(history["val_confusion_matrix"][-1])
    cells = [int(d["title"].split(": ")[1].split(",")[0]) for d in parsed.all("td") if "--v" in d.get("style", "")]
    assert cells == matrix.reshape(-1).tolist() and matrix.sum() == 32
    assert f"{np.trace(matrix) / 32:.2%} on the diagonal" in body
    assert "Linear" in body and "? × 16" in body and "131" in body  # 4 * 16 + 16 + 16 * 3 + 3
    assert "".join(loop.source.split()) in "".join("".join(parsed.texts["main"]).split())
    for fact in (gl.__version__, np.__version__, "numpy", "float32"):
        assert fact in parsed.text("dl")
    assert {"step", "first step", "data", "validation"} <= set(
        re.findall(r"[a-z ]+[a-z]", parsed.text("th"))
    ) or "step" in parsed.text("th")


def test_nothing_is_loaded_from_elsewhere_and_all_is_escaped(trained):
    folder, _ = trained
    text = page(read_run(folder))
    parsed = Parsed(text)
    for tag, attributes in parsed.tags:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            assert attributes.get(name, "data:,").startswith(("data:", "#")), (tag, attributes)
    assert "http://" not in text and "https://" not in text and "url(" not in text and "@import" not in text
    policy = next(a["content"] for a in parsed.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert len(parsed.all("script")) == 1 and "<script>alert" not in text
    assert EVIL in "".join(parsed.texts["main"])  # as text: in the labels of the matrix
    run = read_run(folder)
    run.name = run.info["status"] = run.info["backend"] = EVIL
    run.metrics = {f"val_{EVIL}": [1.0] * 6}
    run.source = f"# {EVIL}\nthis is (no python"
    run.config = EVIL
    run.layers["layers"][0]["type"] = EVIL
    run.timing["parts"][0]["part"] = EVIL
    run.faults = [EVIL]
    parsed = Parsed(page(run))
    assert not parsed.faults and len(parsed.all("script")) == 1
    assert parsed.text("h1") == EVIL


def test_it_can_be_read_by_those_who_do_not_see_it(trained):
    parsed = Parsed(page(read_run(trained[0])))
    assert parsed.all("html")[0]["lang"] == "en" and parsed.all("meta")[1]["name"] == "viewport"
    for svg in parsed.all("svg"):
        assert svg["role"] == "img" and svg["aria-label"]
    assert any("at the end: train_loss" in svg["aria-label"] for svg in parsed.all("svg"))
    for tag, attributes in parsed.tags:
        if "scroll" in attributes.get("class", "").split():
            assert attributes["tabindex"] == "0" and attributes["aria-label"], (tag, attributes)
    assert all(th.get("scope") in ("row", "col") for th in parsed.all("th"))


def test_contrast_of_text_in_both_schemes():
    light, dark = (
        dict(re.findall(r"--(\w+):(#\w+)", part)) for part in STYLE.split("@media (prefers-color-scheme:dark)", 1)
    )
    for scheme in (light, dark):
        for name in ("fg", "soft", "kw", "str", "com", "num", "b", "c", "d"):
            assert contrast(scheme[name], scheme["card"]) >= 4.5, (name, scheme[name])
        assert contrast(scheme["soft"], scheme["bg"]) >= 4.5
        assert contrast(scheme["a"], scheme["card"]) >= 3 and contrast(scheme["bar"], scheme["card"]) >= 3
        # Numbers in the matrix.
        for share in range(101):
            text = "#ffffff" if share >= WHITE_FROM else scheme["cell"]
            assert contrast(text, mixed(scheme["heat"], scheme["card"], share)) >= 4.5, share


def rgb(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    return [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]


def mixed(a, b, share):
    return "#" + "".join(
        f"{round(255 * (share * x + (100 - share) * y) / 100):02x}" for x, y in zip(rgb(a), rgb(b), strict=True)
    )


def contrast(a, b):
    """The ratio of WCAG 2."""

    def luminance(colour):
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb(colour)]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    x, y = sorted((luminance(a), luminance(b)))
    return (y + 0.05) / (x + 0.05)


# --- runs that are not as they should be


def test_a_folder_with_metrics_alone_is_a_run(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"epoch": 1, "train_loss": 5.0, "note": "text"}\n{"step": 3, "train_loss": 9}\n{"epoch": 2, "train_loss": NaN, "lr": 0.1}\n'
    )
    run = read_run(tmp_path)
    assert run.epochs == [1, 2] and run.metrics["train_loss"][0] == 5.0 and run.metrics["lr"] == [None, 0.1]
    assert "note" not in run.metrics and run.best("train_loss") == (1, 5.0)
    text = page(run)
    assert not Parsed(text).faults and "1 value not finite" in text
    for heading in ("Time", "Confusion matrix", "Model", "Training step"):
        assert f"<h2>{heading}</h2>" not in text


def test_damaged_files_are_named_and_left_out(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,train_loss\n")
    (tmp_path / "model.json").write_text("{")
    (tmp_path / "confusion.json").write_text('{"labels": ["a"], "matrix": [[1, 2]]}')
    (tmp_path / "timing.json").write_text('{"epochs": [{"epoch": 1}]}')
    (tmp_path / "step.py").write_bytes(b"\xff\xfe\x00")
    run = read_run(tmp_path)
    assert [f.split()[0] for f in run.faults] == ["model.json", "confusion.json", "timing.json", "step.py"]
    text = page(run)
    assert "No epoch is done yet." in text and "confusion.json is not what RunFolder writes" in text
    (tmp_path / "metrics.csv").write_text("epoch,train_loss\none,1\n")
    with pytest.raises(FileFormatError, match=r"metrics\.csv cannot be read: invalid literal"):
        read_run(tmp_path)
    with pytest.raises(OptionError, match="there is no such run folder"):
        read_run(tmp_path / "none")
    (tmp_path / "file").write_text("")
    (tmp_path / "metrics.csv").write_text("epoch,train_loss\n1,1\n")
    with pytest.raises(FileFormatError, match="the report cannot be written"):
        write_report(tmp_path, tmp_path / "file" / "report.html")


@pytest.mark.parametrize(
    "values",
    [[1.0], [3.0, 3.0], [0.0, 0.0], [-2.0, 5.0], [1e-9, 1e9], [None, 1.0, float("inf")], [1e300, -1e300], [None]],
)
def test_charts_of_any_values_are_numbers_inside_of_the_picture(values):
    for log in (False, True):
        text = line_chart("t", list(range(1, len(values) + 1)), [Series("s", values)], log=log)
        for x, y in re.findall(r'cx="([^"]+)" cy="([^"]+)"', text):
            assert 0 <= float(x) <= 420 and 0 <= float(y) <= 240, text
        assert "nan" not in re.sub(r"data-chart=.*?>", "", text)
        assert text.count("<circle") == sum(v is not None and np.isfinite(v) and (not log or v > 0) for v in values)


def test_ticks():
    for low, high in [(0.013, 0.92), (-3, 7), (1e-12, 2e-12), (99990.0, 100010.0), (0.0, 1.0)]:
        ticks = nice_ticks(low, high)
        assert ticks[0] <= low and ticks[-1] >= high and 3 <= len(ticks) <= 9
        assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])
    for low, high in [(0.2, 0.3), (1e-8, 1.0), (3.0, 4000.0), (1e-30, 1e30), (1.0, 1.0)]:
        ticks = log_ticks(low, high)
        assert ticks[0] <= low * (1 + 1e-9) and ticks[-1] >= high * (1 - 1e-9) and 2 <= len(ticks) <= 9, (
            low,
            high,
            ticks,
        )
    assert whole_ticks([3]) == [3] and whole_ticks([]) == [] and whole_ticks(range(1, 1001))[:2] == [200, 400]


def test_many_classes_are_told_and_not_drawn(trained):
    run = read_run(trained[0])
    matrix = np.eye(60, dtype=int)
    matrix[3, 5] = 4
    run.confusion = {"labels": [str(i) for i in range(60)], "matrix": matrix.tolist()}
    text = page(run)
    assert "60 classes, too many to draw" in text and "3 taken for 5 (4)" in text and 'class="matrix"' not in text


# --- the callback


def test_run_folder_in_a_list_of_ones_own(tmp_path):
    callbacks = CallbackList([RunFolder(tmp_path / "run")])
    callbacks.on_train_begin()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "running"
    callbacks.on_epoch_end(0, {"train_loss": 0.1, "val_confusion_matrix": [[2, 1], [0, 3]]})
    callbacks.on_epoch_end(1, {"train_loss": float("nan")})
    callbacks.on_exception(ValueError("it broke"))
    callbacks.on_train_end()
    run = read_run(tmp_path / "run")
    assert run.epochs == [1, 2] and run.metrics["train_loss"][0] == 0.1 and np.isnan(run.metrics["train_loss"][1])
    assert run.confusion == {"labels": ["0", "1"], "matrix": [[2, 1], [0, 3]]}
    assert (run.info["status"], run.info["reason"]) == ("failed", "ValueError: it broke")
    assert [p.name for p in (tmp_path / "run").iterdir() if p.name.startswith(".")] == []


def test_run_folder_changes_no_number(tmp_path):
    def losses(*callbacks):
        gl.manual_seed(3)
        model = gl.nn.Sequential(gl.nn.Linear(4, 8), gl.nn.BatchNorm1d(8), gl.nn.Dropout(0.5), gl.nn.Linear(8, 1))
        model[1].eval()  # one part of the model in another mode than the rest
        loop = TrainingLoop(
            model, gl.optim.SGD(model.parameters(), lr=0.1), loss_fn=gl.nn.MSELoss(), callbacks=callbacks
        )
        x = gl.tensor(np.random.default_rng(0).normal(size=(16, 4)).astype("float32"))
        return loop.fit([(x, x[:, :1])] * 3, epochs=2)["train_loss"], model.state_dict()

    (a, first), (b, second) = losses(), losses(RunFolder(tmp_path))
    assert a == b
    assert all((first[n].numpy() == second[n].numpy()).all() for n in first)


def test_a_full_disk_is_told_once_and_ends_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    callbacks = CallbackList([RunFolder(tmp_path / "file" / "run")])
    with pytest.warns(UserWarning, match="RunFolder could not write to .*training goes on") as told:
        callbacks.on_train_begin()
        callbacks.on_epoch_end(0, {"train_loss": 0.1})
        callbacks.on_train_end()
    assert len(told) == 1


def test_toml_is_read_back():
    import tomllib

    values = {
        "a": 1, "b": [1.5, float("inf")], "text": 'quote " back \\ line\n tab\t ü \x7f', "flag": True, "t": {"x.y": "z", "n": [{"k": 1}]},
        "long": ["word " * 10] * 4, "small": 1e-30,
    }  # fmt: skip
    assert tomllib.loads(toml_text({**values, "none": None})) == values
    with pytest.raises(OptionError, match="no None in a list"):
        toml_text({"a": [None]})


# --- in a browser


@pytest.fixture(scope="module")
def chromium():
    program = browser.find()
    if program is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    if subprocess.run([program, "--version"], capture_output=True, timeout=60).returncode:
        pytest.skip(f"{program} does not start")  # a placeholder that asks for a snap
    with browser.Browser(program) as found:
        yield found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1400])
def test_in_a_browser(trained, chromium, width, dark):
    file = write_report(trained[0])
    chromium.problems.clear()
    chromium.requests.clear()
    chromium.open(file.as_uri(), width, 900, dark)
    assert chromium.evaluate("document.documentElement.scrollWidth") <= width, "the page is wider than the window"
    outside = """[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll') && !e.closest('svg')
        && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    assert chromium.evaluate(outside) == []
    assert chromium.evaluate("document.querySelectorAll('svg').length") >= 4
    small = "Math.min(...[...document.querySelectorAll('svg text')].map(e => e.getBoundingClientRect().height).filter(h => h))"
    assert chromium.evaluate(small) >= 9
    colours = pixels(chromium.screenshot())
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) > 50, "an empty page"
    assert (colours.mean() < 100) == dark
    # The values under the pointer, as text.
    box = chromium.evaluate(
        "(() => { const c = [...document.querySelectorAll('.chart svg[data-chart]')].find(e => e.clientWidth);"
        "c.scrollIntoView(); const b = c.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; })()"
    )
    chromium.move(box[0] + box[2] * 0.99, box[1] + box[3] / 2)
    tip = chromium.evaluate("[...document.querySelectorAll('.tip')].filter(t => !t.hidden).map(t => t.textContent)")
    loss = trained[1].history["train_loss"][-1]
    assert len(tip) == 1 and tip[0].startswith(f"epoch 6\ntrain_loss {loss:.4g}\n"), tip
    # Linear or logarithmic: always one of them.
    shown = "[...document.querySelectorAll('.chart')].map(c => [...c.querySelectorAll('svg')].filter(e => e.clientWidth).length)"
    assert set(chromium.evaluate(shown)) == {1}
    chromium.evaluate("document.querySelectorAll('.switch input').forEach(e => e.click())")
    assert set(chromium.evaluate(shown)) == {1}
    assert chromium.problems == []
    assert set(chromium.requests) == {file.as_uri()}


def pixels(png):
    """A PNG of 8 bits as an array (height, width, 3)."""
    assert png.startswith(b"\x89PNG")
    stream, data = io.BytesIO(png[8:]), b""
    while head := stream.read(8):
        size, kind = struct.unpack(">I4s", head)
        body = stream.read(size)
        stream.read(4)
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
        elif kind == b"IDAT":
            data += body
    assert depth == 8 and colour in (2, 6)
    channels = 3 if colour == 2 else 4
    lines = np.frombuffer(zlib.decompress(data), "uint8").reshape(height, 1 + width * channels)
    image = np.zeros((height, width, channels), "uint8")
    above = np.zeros((width, channels), int)
    for y, line in enumerate(lines):
        above = image[y] = unfiltered(line[0], line[1:].reshape(width, channels).astype(int), above)
    return image[..., :3]


def unfiltered(kind, line, above):
    if kind == 0:
        return line
    if kind == 2:
        return (line + above) % 256
    if kind == 1:
        return np.cumsum(line, 0) % 256
    done = np.zeros_like(line)
    left = corner = np.zeros(line.shape[1], int)
    for x in range(len(line)):
        up = above[x].astype(int)
        if kind == 3:
            guess = (left + up) // 2
        else:
            p = left + up - corner
            a, b, c = abs(p - left), abs(p - up), abs(p - corner)
            guess = np.where((a <= b) & (a <= c), left, np.where(b <= c, up, corner))
        left = done[x] = (line[x] + guess) % 256
        corner = up
    return done
