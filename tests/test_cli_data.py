"""`fastcifar data ...`: one JSON object on stdout, errors left to the main program."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fake_cifar10 import binary_files, fake_dataset, python_files, shrink, write_files
from PIL import Image
from typer.testing import CliRunner

from fastcifar.cli.data import data_app
from fastcifar.dataset import load
from fastcifar.dataset.shapes10 import make_shapes10
from fastcifar.errors import DataError, UsageError

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """A small CIFAR-10 in a folder, an empty cache, and the working folder elsewhere."""
    shrink(monkeypatch)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("FASTCIFAR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTCIFAR_DATA_DIR", raising=False)
    monkeypatch.setattr(load, "make_shapes10", lambda: make_shapes10(50, 20))
    return write_files(tmp_path / "data", binary_files(fake_dataset()))


def call(*arguments):
    """Standard output of a call that must succeed."""
    result = CliRunner().invoke(data_app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_find(data):
    record = json.loads(call("find", "--data-dir", data, "--json"))
    assert record["source"] == f"binary, {data}"
    assert record["searched"][0] == {
        "from": "--data-dir",
        "path": str(data),
        "found": [{"layout": "binary", "path": str(data)}],
    }
    assert call("find", "--data-dir", data) == f"--data-dir ({data}): binary {data}\nused: binary, {data}\n"
    assert json.loads(call("find", "--dataset", "shapes10", "--json"))["source"] == "shapes10, built in"


def test_import_then_find(data, tmp_path):
    source = write_files(tmp_path / "py", python_files(fake_dataset()))
    record = json.loads(call("import", source, "--json"))
    assert record == {
        "path": str(tmp_path / "cache" / "cifar10.npz"),
        "dataset": "cifar10",
        "train_images": 100,
        "test_images": 20,
    }
    assert f"used: npz, {record['path']}" in call("find")
    assert "100 training and 20 test images" in call("import", source, "--to", tmp_path / "mine")
    assert (tmp_path / "mine" / "cifar10.npz").is_file()


def test_stats(data, tmp_path):
    record = json.loads(call("stats", "--data-dir", data, "--json"))
    assert record["counts"]["train"]["airplane"] == 10
    assert record["mean"] == pytest.approx((fake_dataset().train.images / 255).mean(axis=(0, 1, 2)))
    assert record["as_published"] is False
    assert record["grid"] == "cifar10-grid.png"
    with Image.open(tmp_path / "work" / "cifar10-grid.png") as picture:
        assert picture.format == "PNG"


def test_stats_of_shapes10_say_what_it_is(tmp_path):
    text = call("stats", "--dataset", "shapes10", "--grid", tmp_path / "here" / "grid.png")
    assert text.startswith("shapes10 (not CIFAR-10): built in")
    assert "crescent" in text
    assert (tmp_path / "here" / "grid.png").is_file()


@pytest.mark.parametrize(("file_format", "part"), [("folders", "train/ship"), ("webdataset", "train-000000.tar")])
def test_export(data, tmp_path, file_format, part):
    record = json.loads(call("export", "--data-dir", data, "--format", file_format, "--limit", 20, "--json"))
    assert record == {"path": f"cifar10-{file_format}", "dataset": "cifar10", "format": file_format, "images": 40}
    assert (tmp_path / "work" / record["path"] / part).exists()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["find"], DataError),
        (["find", "--dataset", "mnist"], UsageError),
        (["stats", "--data-dir", "nowhere", "--json"], DataError),
        (["import", "nowhere"], DataError),
        (["export", "--format", "zip", "--dataset", "shapes10"], UsageError),
        (["download", "--offline"], DataError),
    ],
)
def test_failures_reach_the_main_program_and_print_nothing(tmp_path, arguments, error):
    result = CliRunner().invoke(data_app, arguments)
    assert type(result.exception) is error
    assert result.stdout == ""
    assert list((tmp_path / "work").iterdir()) == []


def test_importing_the_command_is_light():
    heavy = "{'torch', 'numpy', 'PIL', 'matplotlib', 'pooch'}"
    program = f"import sys, fastcifar.cli.data; print(sorted({heavy} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout == "[]\n"
