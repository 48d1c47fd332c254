"""The report: what stands on the page is what the run did, and the page stands alone."""

import json
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from colour_dataset import make_colour_dataset
from PIL import Image
from test_cli import Cli, cli  # noqa: F401 - the fixture

from fastcifar.config import Config, OptimizerConfig, ScheduleConfig
from fastcifar.dataset.npz import write_npz
from fastcifar.errors import UsageError
from fastcifar.report.clock import epoch_times, shares
from fastcifar.report.curves import accuracy_curve, learning_rate_curve, loss_curve
from fastcifar.report.mistakes import surest_mistakes
from fastcifar.report.record import RunRecord, read_record, single_runs
from fastcifar.report.several import Spread, grouped, several_page
from fastcifar.runtime import choose_runtime
from fastcifar.settings import ResolvedConfig, resolve
from fastcifar.training.material import load_material
from fastcifar.training.observer import EpochRecord, Observer
from fastcifar.training.optimizer_choice import with_optimizer
from fastcifar.training.runs import train_runs

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
SETTINGS = [
    "training.runs=2",
    "training.batch_size=50",
    "schedule.epochs=2",
    "schedule.image_sizes=[[0.0, 8], [0.5, 16]]",
    "training.evaluate_from=0.0",
    "runtime.device=cpu",
    "runtime.amp=false",
]
ODD_NAME = 'a<b>|"c'
"""A class name that must be escaped wherever it is written."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two seeds, on a set of colours that it also names."""
    folder = tmp_path_factory.mktemp("report")
    dataset = make_colour_dataset(train=200, test=103)
    write_npz(replace(dataset, name="colours", classes=(ODD_NAME, *dataset.classes[1:])), folder / "colours.npz")
    resolved = resolve(
        "demo", settings=[*SETTINGS, "data.dataset=cifar10", f"data.dir={folder / 'colours.npz'}"], environment={}
    )
    runtime = with_optimizer(choose_runtime(resolved.config.runtime), resolved.config.optimizer)
    material = load_material(resolved, runtime, Observer())
    return Path(train_runs(material, Observer(), folder, time.time())["run_dir"])


@pytest.fixture
def report(cli: Cli) -> Cli:  # noqa: F811
    return lambda *arguments: cli("report", *map(str, arguments))


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the first seed's folder, to be harmed."""
    return Path(shutil.copytree(trained / "seed0", tmp_path / "run"))


class Outline(HTMLParser):
    """Fails on tags that are not closed in order; keeps texts and the addresses that a browser would fetch."""

    VOID = ("meta", "link", "img")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())


def assert_stands_alone(page: Path) -> Outline:
    outline = Outline(page.read_text())
    assert all(address.startswith(("data:", "#")) for address in outline.addresses)
    assert "http" not in re.sub(r"base64,[^\"]*", "", page.read_text())
    return outline


def assert_is_a_picture(path: Path) -> None:
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert pixels.std() > 5, path
    assert (pixels == 255).all(2).mean() < 0.98, path


def test_page_pictures_and_readme_of_a_run(report: Callable, run: Path) -> None:
    code, out, err = report(run, "--readme", "--json", "--device", "cpu")
    assert code == 0, err
    written = json.loads(out)
    metrics = json.loads((run / "metrics.json").read_text())
    outline = assert_stands_alone(Path(written["page"]))
    assert f"{metrics['val_acc']:.2f} %" in outline.words
    assert f"{metrics['parameters']:,}" in outline.words
    assert ODD_NAME in outline.words
    assert f"{metrics['parameters'] - 24 * 28:,}" in outline.words  # trainable: the whitened stem is frozen
    assert not any("recorded" in words for words in outline.words)
    for path in written["figures"]:
        assert_is_a_picture(Path(path))
    names = {Path(path).stem for path in written["figures"]}
    assert names >= {"accuracy", "loss", "learning-rate", "confusion", "calibration", "augmentation", "classes", "time"}
    assert ("mistakes" in names) == (metrics["val_acc"] < 100)
    readme = Path(written["readme"]).read_text()
    linked = re.findall(r"!\[[^]]*\]\(([^)]*)\)", readme)
    assert linked
    assert all((run / link).exists() for link in linked)
    assert f"**{metrics['val_acc']:.2f} %**" in readme
    confusion = np.array(metrics["evaluation"]["confusion_matrix"])
    recall = 100 * confusion[3, 3] / confusion[3].sum()
    assert re.search(rf"\| colour3 \| [\d.]+ \| {recall:.2f} \| ", readme)
    assert "| a&lt;b&gt;\\|&#34;c |" in readme
    # a second report replaces the first
    assert report(run, "--readme", "--device", "cpu")[0] == 0


def test_a_difference_from_what_was_recorded_is_said(report: Callable, run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | {"val_acc": 1.25}))
    code, _, err = report(run, "--device", "cpu")
    assert code == 0, err
    assert any("recorded 1.25 %" in words for words in Outline((run / "report.html").read_text()).words)


def test_an_interrupted_run_is_reported_as_such(report: Callable, run: Path) -> None:
    (run / "metrics.json").unlink()
    lines = (run / "epochs.jsonl").read_text().splitlines()
    record = json.loads(lines[0]) | {"val_loss": None, "val_accuracy": None}
    (run / "epochs.jsonl").write_text(json.dumps(record) + "\n")
    code, _, err = report(run, "--readme", "--device", "cpu")
    assert code == 0, err
    assert "Not finished: 1 of 2 epochs are done." in assert_stands_alone(run / "report.html").words
    assert "**Not finished**" in (run / "README.md").read_text()


def test_several_runs(report: Callable, trained: Path, tmp_path: Path) -> None:
    code, out, err = report(trained, "--readme", "--output", tmp_path / "out", "--json")
    assert code == 0, err
    written = json.loads(out)
    assert written["runs"] == [str(trained / "seed0"), str(trained / "seed1")]
    outline = assert_stands_alone(Path(written["page"]))
    accuracies = [json.loads((trained / f"seed{seed}" / "metrics.json").read_text())["val_acc"] for seed in (0, 1)]
    expected = f"{statistics.mean(accuracies):.2f} ± {statistics.stdev(accuracies):.2f}"
    assert expected in outline.words
    assert f"| {expected} |" in (tmp_path / "out" / "README.md").read_text()
    for path in written["figures"]:
        assert_is_a_picture(Path(path))


def test_runs_are_grouped_by_their_settings(trained: Path) -> None:
    first, second = (read_record(run) for run in single_runs(trained))
    other = changed(first, optimizer=OptimizerConfig(learning_rate=0.123))
    together = grouped([first, other, second])
    assert [group.runs for group in together] == [(first, second), (other,)]
    assert [group.name for group in together][1].startswith("demo, ")
    assert "learning_rate 0.123" in together[1].name
    far = changed(
        first, optimizer=OptimizerConfig(learning_rate=0.123, momentum=0.5), schedule=ScheduleConfig(epochs=2)
    )
    assert [group.name for group in grouped([first, far])] == ["demo, no. 1", "demo, no. 2"]
    page = several_page([first, other, second])
    assert ("optimizer.learning_rate", [first.resolved.config.optimizer.learning_rate, 0.123]) in page.content["apart"]
    assert not any(key == "training.seed" for key, _ in page.content["apart"])


def test_runs_on_different_images_are_not_compared(trained: Path) -> None:
    first, second = (read_record(run) for run in single_runs(trained))
    assert second.metrics is not None
    held_out = replace(second, metrics=second.metrics | {"evaluated_on": "holdout"})
    with pytest.raises(UsageError, match=r"holdout.*test"):
        several_page([first, held_out])


def test_spread_by_hand() -> None:
    assert Spread.of([None, None]) is None
    one = Spread.of([None, 2.0])
    assert one is not None
    assert one.text(1) == "2.0"
    two = Spread.of([1.0, 3.0, None])
    assert two is not None
    assert two.text(2) == "2.00 ± 1.41"
    assert two.count == 2


def test_foreign_readme_is_left_alone(report: Callable, run: Path) -> None:
    (run / "README.md").write_text("# My own\n")
    code, _, err = report(run, "--readme", "--device", "cpu")
    assert (code, err.count("\n")) == (2, 1), err
    assert (run / "README.md").read_text() == "# My own\n"
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (lambda run: shutil.rmtree(run), "no such folder"),
        (lambda run: (run / "config.json").unlink(), "not a run folder"),
        (lambda run: (run / "epochs.jsonl").unlink(), "no epoch is finished"),
        (lambda run: (run / "epochs.jsonl").write_text('{"epoch": 1}\n'), "epochs.jsonl: damaged"),
        (lambda run: (run / "metrics.json").write_text("{"), "metrics.json: damaged"),
        (lambda run: (run / "last.safetensors").write_bytes(b"x"), "last.safetensors"),
        (lambda run: (run.parent / "colours.npz").unlink(), "colours.npz"),
    ],
)
def test_what_cannot_be_reported_is_said_in_one_line(
    report: Callable, trained: Path, run: Path, harm: Callable[[Path], object], named: str
) -> None:
    config = json.loads((run / "config.json").read_text())
    shutil.copy(trained.parent / "colours.npz", run.parent)
    config["config"]["data"]["dir"] = str(run.parent / "colours.npz")
    (run / "config.json").write_text(json.dumps(config))
    harm(run)
    code, out, err = report(run, "--device", "cpu")
    assert (code, out, err.count("\n")) == (3, "", 1), err
    assert named in err
    assert not (run / "report.html").exists()


def test_surest_mistakes_by_hand() -> None:
    logits = torch.tensor([[9.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 1.0], [5.0, 0.0, 0.0]])
    found = surest_mistakes(logits, torch.tensor([0, 0, 1, 2]), most=2)
    assert [(one.index, one.true, one.predicted) for one in found] == [(3, 2, 0), (1, 0, 1)]
    assert found[1].confidence == pytest.approx(100 * np.exp(3) / (np.exp(3) + 2))
    assert surest_mistakes(torch.eye(3), torch.arange(3)) == []


def test_times_add_up() -> None:
    epochs = (epoch(1, seconds=10.0, images_per_second=100.0), epoch(2, seconds=8.0, images_per_second=200.0))
    metrics = {"cold_time_s": 30.0, "warmup_time_s": 5.0, "train_time_s": 18.0}
    record = RunRecord(Path(), ResolvedConfig(Config(), "demo", {}), epochs, (), metrics)
    times = epoch_times(record, 600)
    assert [(time.steps, time.evaluation) for time in times] == [(6.0, 4.0), (3.0, 5.0)]
    found = shares(record, times)
    assert sum(found.values()) == pytest.approx(30.0)
    assert list(found.values()) == [9.0, 9.0, 5.0, 7.0]
    resumed = replace(record, metrics=metrics | {"cold_time_s": None})
    assert sum(shares(resumed, times).values()) == pytest.approx(23.0)


def test_curves_show_what_was_recorded() -> None:
    epochs = (
        epoch(1, train_loss=2.0, train_accuracy=30.0),
        epoch(2, train_loss=1.5, train_accuracy=40.0, val_loss=1.7, val_accuracy=35.0),
        epoch(3, train_loss=1.0, train_accuracy=50.0, val_loss=1.2, val_accuracy=45.0),
    )
    record = RunRecord(Path(), ResolvedConfig(Config(), "demo", {}), epochs, (), None)
    for figure, train, evaluated in (
        (loss_curve(record, "test"), [2.0, 1.5, 1.0], [1.7, 1.2]),
        (accuracy_curve(record, "test"), [30.0, 40.0, 50.0], [35.0, 45.0]),
    ):
        lines = {line.get_label(): line for line in figure.axes[0].lines}
        assert [np.asarray(line.get_ydata()).tolist() for line in lines.values()] == [train, evaluated]
        assert np.asarray(lines["test images"].get_xdata()).tolist() == [2, 3]
    config = replace(Config(), schedule=ScheduleConfig(epochs=10, warmup=0.2, final_lr=0.0))
    (line,) = learning_rate_curve(config, 1000).axes[0].lines
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    assert y.max() == pytest.approx(config.optimizer.learning_rate)
    assert x[y.argmax()] == pytest.approx(2.0)
    np.testing.assert_allclose(y[x == 6.0], config.optimizer.learning_rate / 2)


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
@pytest.mark.parametrize("width", [1100, 500])
def test_a_browser_shows_the_page(report: Callable, run: Path, tmp_path: Path, width: int) -> None:
    assert report(run, "--device", "cpu")[0] == 0
    shown = screenshot(run / "report.html", tmp_path / "page.png", width)
    assert ink(shown) > 0.05
    assert ink(shown[:400]) > 0.02  # the headline
    bare = tmp_path / "bare.html"
    bare.write_text(re.sub("<body>.*</body>", "<body></body>", (run / "report.html").read_text(), flags=re.DOTALL))
    assert ink(screenshot(bare, tmp_path / "bare.png", width)) == 0
    # nothing is wider than the window
    assert (shown[:, -2:] == 255).all()


def screenshot(page: Path, target: Path, width: int) -> np.ndarray:
    """uint8 [4000, width, 3]: the page from its top, as Chromium shows it without a network."""
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={target}.d",
    ]
    command += ["--proxy-server=127.0.0.1:9", f"--window-size={width},4000", f"--screenshot={target}", page.as_uri()]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    return np.asarray(Image.open(target).convert("RGB"))


def ink(pixels: np.ndarray) -> float:
    """Share of the pixels that are not white."""
    return float((pixels != 255).any(2).mean())


def epoch(number: int, **values: float | None) -> EpochRecord:
    plain = dict.fromkeys(EpochRecord.__dataclass_fields__, 1.0) | {"val_loss": None, "val_accuracy": None}
    return EpochRecord(**plain | {"epoch": number, "image_size": 32} | values)  # pyright: ignore[reportArgumentType]


def changed(record: RunRecord, **sections: object) -> RunRecord:
    config = replace(record.resolved.config, **sections)  # pyright: ignore[reportArgumentType]
    return replace(record, resolved=replace(record.resolved, config=config))
