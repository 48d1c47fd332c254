"""`fastcifar parity` and `train --loader dali` as a user types them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_cli import QUICK, Cli, cli  # noqa: F401 - the fixture

from fastcifar.augment import requirements
from fastcifar.parity import compare

pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed: pip install '.[dali-cuda130]'")
pytest.importorskip("albumentations", reason="albumentations is not installed: pip install '.[parity]'")

SMALL = ["parity", "--images", "20", "--dataset", "shapes10"]


def test_parity_prints_a_table_and_draws_a_picture(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    code, out, err = cli(*SMALL, "--picture", str(tmp_path / "p.png"))
    assert code == 0, err
    rows = [line for line in out.splitlines() if "holds" in line]
    assert len(rows) == 22
    assert sum("reflect-101" in row for row in rows) == sum("constant" in row for row in rows) == 6
    assert "no GPU here" in out
    with Image.open(tmp_path / "p.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 100


def test_parity_as_json(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    code, out, _ = cli(*SMALL, "--border", "constant", "--json")
    record = json.loads(out)
    assert code == 0
    assert record["holds"] is True
    assert record["images"] == 20
    assert {row["border"] for row in record["differences"]} == {"", "constant"}
    assert {row["backend"] for row in record["differences"]} == {"dali", "torch"}
    assert (tmp_path / record["picture"]).is_file()


def test_a_broken_bound_is_exit_6_with_the_table_all_the_same(cli: Cli, monkeypatch) -> None:  # noqa: F811
    bounds = compare.BOUNDS["torch"] | {"everything": compare.EXACT}
    monkeypatch.setitem(compare.BOUNDS, "torch", bounds)
    code, out, err = cli(*SMALL, "--border", "constant")
    assert code == 6
    assert out.count("BROKEN") == 1
    assert "everything in torch (cpu)" in err
    assert len(err.strip().splitlines()) == 1


def test_without_cifar10_it_compares_shapes10_and_says_so(cli: Cli) -> None:  # noqa: F811
    code, out, err = cli("parity", "--images", "10")
    assert code == 0
    assert "shapes10" in err
    assert "10 shapes10" in out


def test_what_is_not_installed(cli: Cli, monkeypatch) -> None:  # noqa: F811
    installed = requirements.installed_version
    monkeypatch.setattr(requirements, "installed_version", lambda name: None if "dali" in name else installed(name))
    code, out, _ = cli(*SMALL)
    assert code == 0
    assert "DALI is not installed" in out
    assert "dali (cpu)" not in out
    monkeypatch.setattr(requirements, "installed_version", lambda name: None)
    code, out, err = cli(*SMALL)
    assert (code, out) == (4, "")
    assert "pip install" in err


@pytest.mark.parametrize("arguments", [["--border", "wrap"], ["--images", "3"]])
def test_what_cannot_be_meant_is_exit_2(cli: Cli, arguments: list[str]) -> None:  # noqa: F811
    code, out, err = cli("parity", *arguments)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("draws", ["fastcifar", "dali"])
def test_training_with_dali(cli: Cli, draws: str) -> None:  # noqa: F811
    code, out, err = cli(
        "train", "--recipe", "demo", *QUICK, "--loader", "dali", "--set", f"loader.draws={draws}", "--json"
    )
    assert code == 0, err
    assert "loader: dali (asked for; reads the arrays and augments on the CPU)" in err
    assert json.loads(out)["used"]["loader"] == "dali"


def test_training_on_jpeg_class_folders(cli: Cli, tmp_path: Path, colours) -> None:  # noqa: F811
    for split, images in (("train", colours.train), ("test", colours.test)):
        for index, (image, label) in enumerate(zip(images.images, images.labels, strict=True)):
            folder = tmp_path / "mine" / split / f"colour{label}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{index}.jpg", quality=95)
    arguments = ["--data-dir", str(tmp_path / "mine"), "--loader", "dali", "--batch-size", "40", "--json"]
    code, out, err = cli("train", "--recipe", "demo", *QUICK, "--dataset", "cifar10", *arguments)
    assert code == 0, err
    assert "decodes image files" in err
    assert json.loads(out)["dataset"] == "mine (not CIFAR-10)"


def test_dalis_draws_need_its_loader(cli: Cli) -> None:  # noqa: F811
    code, _, err = cli("train", "--recipe", "demo", "--set", "loader.draws=dali")
    assert code == 2
    assert "--loader dali" in err
