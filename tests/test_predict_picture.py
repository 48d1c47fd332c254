"""`fastcifar predict --gradcam`: what stands in each row of the PNG, pixel by pixel, and when none is written."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_cli import Cli, cli  # noqa: F401 - the fixture
from test_predict import PICTURES, pictures  # noqa: F401 - the fixture
from trained_runs import MEAN, STD, make_run, random_model

from fastcifar.dataset.cifar10 import CLASSES
from fastcifar.evaluation.gradcam import gradcam, overlay
from fastcifar.predict import predict
from fastcifar.predict_picture import MOST_ROWS

LEFT, TOP, CELL, STEP = 48, 138, 256, 276
"""In screen pixels, measured on a picture that was looked at."""


def cells(picture: Path, row: int) -> list[np.ndarray]:
    """The three square cells of a row, uint8 [256, 256, 3]."""
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    top = TOP + row * STEP
    return [pixels[top : top + CELL, left : left + CELL] for left in (LEFT + column * STEP for column in range(3))]


def enlarged(pixels: np.ndarray) -> np.ndarray:
    return pixels.repeat(8, axis=0).repeat(8, axis=1)


def test_each_row_shows_the_picture_what_is_seen_and_the_likeliest_class_in_it(tmp_path: Path, pictures: Path) -> None:  # noqa: F811
    model: Any = random_model("c1c2c3c40-speed", seed=5)
    images = (torch.from_numpy(PICTURES).permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(
        STD
    )[:, None, None]
    model.head.bias.sub_(model(images).mean(0))  # so that not every picture is of one class
    run = make_run(tmp_path / "run", model)
    record, failures = predict(run, [pictures], device="cpu", gradcam_file=tmp_path / "new" / "g.png")
    assert failures == []
    assert record["gradcam"] == str(tmp_path / "new" / "g.png")
    classes = [CLASSES.index(image["predictions"][0]["class"]) for image in record["images"]]
    assert len(set(classes)) > 1
    overlays = overlay(PICTURES, gradcam(model, images, torch.tensor(classes)))
    for row in range(10):
        given, seen, heat = cells(tmp_path / "new" / "g.png", row)
        np.testing.assert_array_equal(given, enlarged(PICTURES[row]))
        np.testing.assert_array_equal(seen, enlarged(PICTURES[row]))
        np.testing.assert_allclose(heat.astype(int), enlarged(overlays[row]), atol=2)
    assert len({pixels.tobytes() for pixels in overlays}) == 10


def test_a_large_picture_is_shown_whole(tmp_path: Path) -> None:
    red_middle = np.zeros((300, 900, 3), dtype=np.uint8)
    red_middle[:, :300, 2] = red_middle[:, 300:600, 0] = red_middle[:, 600:, 1] = 255
    Image.fromarray(red_middle).save(tmp_path / "wide.png")
    predict(make_run(tmp_path / "run"), [tmp_path / "wide.png"], device="cpu", gradcam_file=tmp_path / "g.png")
    given, seen, _ = cells(tmp_path / "g.png", 0)
    assert given[128, [40, 128, 216]].tolist() == [[0, 0, 255], [255, 0, 0], [0, 255, 0]]
    assert (given[[10, -10]] == 255).all()
    assert (seen[20:-20, 20:-20] == (255, 0, 0)).all()


def test_the_file_is_named_in_the_result(cli: Cli, tmp_path: Path, pictures: Path) -> None:  # noqa: F811
    run = str(make_run(tmp_path / "run"))
    code, out, err = cli("predict", run, str(pictures), "--gradcam", "g.png", "--device", "cpu")
    assert (code, err) == (0, "")
    assert out.splitlines()[-2:] == ["", "Grad-CAM: g.png"]
    code, out, err = cli("predict", run, str(pictures), "--gradcam", "g.png", "--top", "1", "--json", "--device", "cpu")
    assert (code, err, json.loads(out)["gradcam"]) == (0, "", "g.png")
    code, out, _ = cli("predict", run, str(pictures), "--json", "--device", "cpu")
    assert json.loads(out)["gradcam"] is None


def test_of_many_pictures_the_first_are_drawn(cli: Cli, tmp_path: Path, pictures: Path) -> None:  # noqa: F811
    run = str(make_run(tmp_path / "run"))
    heights = {}
    for folders in (2, 3):
        arguments = ["predict", run, *[str(pictures)] * folders, "--gradcam", "g.png", "--device", "cpu"]
        code, out, _ = cli(*arguments)
        assert code == 0
        heights[folders] = Image.open(tmp_path / "g.png").height
        assert ("(the first 20 of 30 images)" in out) == (folders == 3)
    assert MOST_ROWS == 20
    assert heights[2] == heights[3] > 20 * STEP


@pytest.mark.filterwarnings("error::UserWarning")
def test_names_that_are_no_plain_text(cli: Cli, tmp_path: Path, pictures: Path) -> None:  # noqa: F811
    names = ["$x_{$.png", "two\nlines.png", "船.png", os.fsdecode(b"\xff.png"), f"{'W' * 200}.png"]
    for index, name in enumerate(names):
        (pictures / f"{index}.png").rename(pictures / name)
    run = str(make_run(tmp_path / "run"))
    code, _, err = cli("predict", run, str(pictures), "--gradcam", "g.png", "--device", "cpu")
    assert (code, err) == (0, "")
    pixels = np.asarray(Image.open(tmp_path / "g.png").convert("L"))
    assert (pixels[:, -LEFT + 2 :] == 255).all()  # nothing runs into the margin


@pytest.mark.parametrize(
    ("picture", "target", "code", "named"),
    [
        ("pictures/1.png", "pictures/1.png", 2, "is one of the pictures"),
        ("pictures", "pictures/../pictures/4.png", 2, "is one of the pictures"),
        ("pictures/1.png", "pictures/2.png/g.png", 2, "cannot be written"),
        ("nowhere.png", "g.png", 3, "no such image"),
    ],
)
def test_when_no_picture_is_written(
    cli: Cli,  # noqa: F811
    tmp_path: Path,
    pictures: Path,  # noqa: F811
    picture: str,
    target: str,
    code: int,
    named: str,
) -> None:
    run = str(make_run(tmp_path / "run"))
    before = {file: file.read_bytes() for file in pictures.iterdir()}
    got, out, err = cli("predict", run, picture, "--gradcam", target, "--device", "cpu")
    assert (got, out, err.count("\n")) == (code, "", 1), err
    assert named in err
    assert {file: file.read_bytes() for file in pictures.iterdir()} == before
    assert not (tmp_path / "g.png").exists()
