"""`fastcifar predict`: the evaluation's own answers, for files and folders, and a line for what cannot be read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_cli import Cli, cli  # noqa: F401 - the fixture
from trained_runs import MEAN, STD, make_run, random_model

from fastcifar.dataset.cifar10 import CLASSES
from fastcifar.dataset.shapes10 import make_images
from fastcifar.predict import predict

PICTURES = make_images(10, seed=3).images


def expected_probabilities(model: torch.nn.Module) -> torch.Tensor:
    """In float64, from the definition."""
    images = torch.from_numpy(PICTURES).permute(0, 3, 1, 2).double() / 255 - torch.tensor(MEAN)[:, None, None].double()
    return model.double()(images / torch.tensor(STD).double()[:, None, None]).softmax(1)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, picture in enumerate(PICTURES):
        Image.fromarray(picture).save(folder / f"{index}.png")
    return folder


def test_probabilities_are_the_networks(tmp_path: Path, pictures: Path) -> None:
    model: Any = random_model("c1c2c3c40-speed", seed=5)
    images = (torch.from_numpy(PICTURES).permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN)[:, None, None]) / 0.25
    model.head.bias.sub_(model(images).mean(0))  # so that not every picture is of one class
    run = make_run(tmp_path / "run", model)
    record, failures = predict(run, [pictures, pictures / "4.png"], top=10, device="cpu")
    assert failures == record["failed"] == []
    files = [Path(image["file"]).name for image in record["images"]]
    assert files == [f"{index}.png" for index in [*range(10), 4]]
    expected = expected_probabilities(model)[[*range(10), 4]]
    assert len(set(expected.argmax(1).tolist())) > 1
    for image, row in zip(record["images"], expected, strict=True):
        found = {one["class"]: one["probability"] for one in image["predictions"]}
        assert list(found.values()) == sorted(found.values(), reverse=True)
        torch.testing.assert_close(torch.tensor([found[name] for name in CLASSES]), row.float(), rtol=0, atol=1e-4)


def test_table_and_json(cli: Cli, tmp_path: Path, pictures: Path) -> None:  # noqa: F811
    run = make_run(tmp_path / "run")
    code, out, err = cli(
        "predict", str(run), str(pictures / "1.png"), str(pictures / "2.png"), "--json", "--device", "cpu"
    )
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert [len(image["predictions"]) for image in record["images"]] == [3, 3]
    assert (record["model"], record["failed"]) == ("c1c2c3c40-speed", [])
    code, out, err = cli("predict", str(run / "best.safetensors"), str(pictures), "--top", "2", "--device", "cpu")
    assert (code, err) == (0, "")
    heading, _, columns, *rows = out.splitlines()
    assert "c1c2c3c40-speed" in heading
    assert columns.startswith("image")
    assert len(rows) == 10
    assert len(set(map(len, rows))) == 1
    likeliest = record["images"][0]["predictions"][0]
    assert rows[1].split()[1:3] == [likeliest["class"], f"{100 * likeliest['probability']:.1f}"]
    code, out, _ = cli("predict", str(run), str(pictures / "1.png"), "--top", "99", "--device", "cpu")
    assert out.splitlines()[-1].count("%") == 10


def test_a_row_that_is_too_wide_for_a_terminal_is_broken(cli: Cli, tmp_path: Path, pictures: Path, monkeypatch) -> None:  # noqa: F811
    run = make_run(tmp_path / "run")
    long_name = pictures / f"{'ab' * 60}.png"
    (pictures / "1.png").rename(long_name)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    for top in ("3", "10"):
        code, out, _ = cli(
            "predict", str(run), str(long_name), str(pictures / "2.png"), "--top", top, "--device", "cpu"
        )
        assert code == 0
        rows = out.splitlines()[3:]
        assert max(map(len, rows)) <= 100
        assert out.count("%") == 2 * int(top)
        assert rows[0].startswith("...ab")
    assert len(rows) > 2


def test_bad_images_are_named_and_the_others_classified(cli: Cli, tmp_path: Path, pictures: Path) -> None:  # noqa: F811
    run = make_run(tmp_path / "run")
    (pictures / "5.png").write_text("no picture")
    whole = (pictures / "6.png").read_bytes()
    (pictures / "6.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty").mkdir()
    code, out, err = cli("predict", str(run), str(pictures), "nowhere.jpg", "empty", "--device", "cpu")
    assert code == 3
    lines = err.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("fastcifar: ") for line in lines)
    for line, name in zip(lines, ("5.png", "6.png", "nowhere.jpg", "empty"), strict=True):
        assert name in line
    assert len(out.splitlines()) == 3 + 8
    code, out, err = cli("predict", str(run), "nowhere.jpg", str(pictures / "1.png"), "--json", "--device", "cpu")
    record = json.loads(out)
    assert (code, err.count("\n")) == (3, 1)
    assert len(record["images"]) == 1
    assert record["failed"] == [{"file": "nowhere.jpg", "reason": "nowhere.jpg: no such image"}]
    code, out, err = cli("predict", str(run), "nowhere.jpg")
    assert (code, out, err.count("\n")) == (3, "", 1)


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["nowhere"], 3, "nowhere"),
        (["."], 3, "not a run folder"),
        (["picture.png"], 3, "picture.png"),
        (["run/last.safetensors", "--best"], 2, "--best"),
        (["run", "--device", "gpu"], 4, "gpu"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    cli: Cli,  # noqa: F811
    tmp_path: Path,
    arguments: list[str],
    code: int,
    named: str,
) -> None:
    make_run(tmp_path / "run")
    Image.fromarray(np.zeros((32, 32, 3), dtype=np.uint8)).save(tmp_path / "picture.png")
    run, *options = arguments
    got, out, err = cli("predict", run, "picture.png", *options)
    assert (got, out, err.count("\n")) == (code, "", 1), err
    assert named in err


def test_several_runs_in_one_folder_are_no_run(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    run = make_run(tmp_path / "run")
    content = json.loads((run / "config.json").read_text())
    content["config"]["training"]["runs"] = 3
    (run / "config.json").write_text(json.dumps(content))
    for command in ("predict", "export"):
        code, _, err = cli(command, str(run), *(["x.png"] if command == "predict" else ["--format", "pt2"]))
        assert (code, err.count("\n")) == (3, 1)
        assert "several runs" in err
