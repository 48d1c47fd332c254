"""`fastcifar lr-find` as a user types it."""
# ruff: noqa: F811 - the fixture is a parameter of its own name

import json
import math
import os
import signal
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from test_cli import Cli, cli  # noqa: F401 - the fixture

from fastcifar.dataset.image_set import Dataset
from fastcifar.training import material
from fastcifar.training.step import TrainingStep

QUICK = ["lr-find", "--recipe", "demo", "--device", "cpu", "--no-amp", "--batch-size", "64", "--steps", "50"]
QUICK += ["--set", "schedule.image_sizes=[[0.0, 8], [0.5, 32]]"]


@pytest.fixture
def small(colours: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own data set in place of whichever is asked for."""
    monkeypatch.setattr(material, "obtain_dataset", lambda *arguments: colours)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_it_suggests_a_peak_and_writes_the_plot_alone(cli: Cli, small: None, tmp_path: Path) -> None:
    code, out, err = cli(*QUICK, "--from", "1e-3", "--to", "100", "--steps", "100", "--json")
    assert code == 0, err
    record = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    lower, upper = record["useful_range"]
    assert 1e-3 <= lower < upper < 100
    assert record["suggestion"] == upper / 2
    assert record["ended"] in ("diverged", "not finite")
    assert (record["image_size"], record["batch_size"], record["recipe_learning_rate"]) == (8, 64, 0.3)
    curve = record["curve"]
    assert len(curve["losses"]) == len(curve["learning_rates"]) == record["steps"] < record["steps_planned"] == 100
    assert "learning rate" in err
    assert files(tmp_path) == {"lr-find.png"}
    assert Image.open(tmp_path / "lr-find.png").format == "PNG"
    first = (tmp_path / "lr-find.png").read_bytes()

    code, out, err = cli(
        *QUICK, "--from", "1e-3", "--to", "100", "--steps", "100", "--quiet", "--set", "training.log_every=1"
    )
    assert (code, err) == (0, "")
    assert f"suggested peak  {record['suggestion']:.2g}" in out
    assert max(map(len, out.splitlines())) <= 100
    assert (tmp_path / "lr-find.png").read_bytes() == first
    assert files(tmp_path) == {"lr-find.png"}


def test_without_an_answer_it_says_so(cli: Cli, small: None, tmp_path: Path) -> None:
    target = tmp_path / "new" / "picture.png"
    arguments = [*QUICK, "--from", "1e-6", "--to", "1e-5", "--output", str(target)]
    code, out, err = cli(*arguments, "--json")
    assert code == 0, err
    record = json.loads(out)
    assert (record["suggestion"], record["ended"], record["steps"]) == (None, "complete", 50)
    code, out, _ = cli(*arguments, "--quiet")
    assert code == 0
    assert sum("no suggestion" in line for line in out.splitlines()) == 1
    assert "suggested" not in out
    assert files(tmp_path) == {"new", "new/picture.png"}


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["--from", "1", "--to", "0.1"], 2, "--from 1 --to 0.1"),
        (["--from", "0"], 2, "--from 0"),
        (["--to", "inf"], 2, "--to inf"),
        (["--steps", "3"], 2, "--steps 3"),
        (["--output", "plot.pdf"], 2, ".png"),
        (["--output", "file/plot.png"], 2, "--output"),
        (["--recipe", "spede"], 2, "speed"),
        (["--recipe", "demo", "--model", "resnet50"], 2, "c1c2c3c40-speed"),
        (["--recipe", "demo", "--device", "gpu"], 4, "gpu"),
        (["--offline"], 3, "shapes10"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    cli: Cli,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    named: str,
) -> None:
    (tmp_path / "file").write_text("")
    got, out, err = cli("lr-find", "--quiet", *arguments)
    assert (got, out, err.count("\n")) == (code, "", 1), err
    assert err.startswith("fastcifar: ")
    assert named in err
    assert files(tmp_path) == {"file"}


def test_a_network_without_a_finite_loss(
    cli: Cli, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = TrainingStep.__call__

    def broken(*arguments):
        loss, correct = step(*arguments)
        return loss * math.nan, correct

    monkeypatch.setattr(TrainingStep, "__call__", broken)
    code, out, err = cli(*QUICK, "--quiet")
    assert (code, out, err.count("\n")) == (6, "", 1), err
    assert files(tmp_path) == set()


@pytest.mark.parametrize("where", ["training", "drawing"])
def test_ctrl_c_leaves_nothing(
    cli: Cli, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    reached = []

    def interrupt(*arguments):
        reached.append(arguments)
        if where == "drawing":
            Path(arguments[1]).write_bytes(b"half a picture")
        os.kill(os.getpid(), signal.SIGINT)

    if where == "training":
        monkeypatch.setattr(TrainingStep, "__call__", interrupt)
    else:
        monkeypatch.setattr(FigureCanvasAgg, "print_png", interrupt)
    code, out, err = cli(*QUICK, "--quiet")
    assert len(reached) == 1
    assert (code, out, err) == (130, "", "fastcifar: interrupted\n")
    assert files(tmp_path) == set()
