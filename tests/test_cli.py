"""The commands as a user types them: results, exit codes, and one line for what can be mended."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fastcifar.cli import main
from fastcifar.training.checkpoint import load_weights, save_weights

Cli = Callable[..., tuple[int, str, str]]

QUICK = ["--epochs", "1", "--device", "cpu", "--no-amp", "--set", "schedule.image_sizes=[[0.0, 8]]"]
RESULT_KEYS = {
    "val_acc",
    "target_reached",
    "time_to_target_s",
    "train_time_s",
    "cold_time_s",
    "images_per_second",
    "epochs",
    "parameters",
    "receptive_field",
    "device",
    "requested",
    "used",
    "run_dir",
}


@pytest.fixture
def cli(clean_environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    def call(*arguments: str) -> tuple[int, str, str]:
        # Another name than the command's, so that this process is not replaced for its environment's sake.
        monkeypatch.setattr(sys, "argv", ["tests", *arguments])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_train_evaluate_and_what_they_print(cli: Cli) -> None:
    code, out, err = cli("train", "--recipe", "demo", *QUICK, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result.keys() >= RESULT_KEYS
    assert (result["epochs"], result["device"], result["dataset"]) == (1, "cpu", "shapes10 (not CIFAR-10)")
    assert 0 < result["train_time_s"] < result["cold_time_s"]
    assert result["requested"]["amp"] == "off"
    assert "not CIFAR-10" in err

    code, out, _ = cli("evaluate", result["run_dir"], "--json", "--device", "cpu")
    assert (code, json.loads(out)["accuracy"]) == (0, result["val_acc"])
    code, out, _ = cli("evaluate", result["run_dir"], "--tta", "--device", "cpu")
    assert code == 0
    assert "flip TTA" in out
    assert "not CIFAR-10" in out

    code, out, err = cli("train", "--recipe", "demo", *QUICK, "--quiet", "--target", "99.9")
    assert code == 5
    assert err.count("\n") == 1
    assert "99.9" in err
    assert "run folder: " in out


def test_dry_run_prints_values_with_their_origin_and_trains_nothing(cli: Cli, tmp_path: Path) -> None:
    code, out, _ = cli("train", "--recipe", "demo", "--epochs", "3", "--set", "training.seed=4", "--dry-run", "--json")
    content = json.loads(out)
    assert code == 0
    assert content["config"]["schedule"]["epochs"] == 3
    assert content["sources"]["schedule.epochs"] == "flag --epochs"
    assert content["sources"]["training.seed"] == "--set"
    assert content["sources"]["data.dataset"] == "recipe demo"
    assert content["sources"]["optimizer.momentum"] == "default"
    code, out, _ = cli("train", "--recipe", "demo", "--dry-run")
    assert "dataset          = shapes10                 # recipe demo" in out.splitlines()
    assert not (tmp_path / "runs").exists()


def test_doctor(cli: Cli) -> None:
    code, out, _ = cli("doctor", "--json")
    report = json.loads(out)
    assert code == 0
    topics = {finding["topic"]: finding for finding in report["findings"]}
    assert topics["cifar-10"]["status"] == "missing"
    assert not report["healthy"]
    assert topics["torch"]["found"].startswith(torch.__version__)
    assert {"device", "amp", "compile", "threads", "waiting", "allocator", "augment", "depthwise"} <= topics.keys()
    assert {"augment on cpu", "augment on cuda", "depthwise on cpu", "depthwise on cuda"} <= topics.keys()
    code, out, _ = cli("doctor")
    assert code == 0
    assert all(topic in out for topic in topics)


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["--recipe", "spede"], 2, "speed"),
        (["--set", "training.batchsize=4"], 2, "training.batch_size"),
        (["--set", "training.batch_size=x"], 2, "training.batch_size"),
        (["--recipe", "demo", "--batch-size", "10000000"], 2, "batch_size"),
        (["--recipe", "demo", "--holdout", "10000000"], 2, "hold-out"),
        (["--recipe", "demo", "--model", "resnet50"], 2, "c1c2c3c40-speed"),
        (["--recipe", "demo", "--model", "assignment-671k"], 2, "no images of 16 pixels"),
        (["--recipe", "demo", "--device", "gpu"], 4, "gpu"),
        (["--recipe", "demo", "--output", "file/runs"], 2, "--output"),
        (["--offline"], 3, "shapes10"),
        (["--data-dir", "nowhere"], 3, "nowhere"),
        (["--data-dir", "."], 3, "CIFAR-10"),
        (["--resume", "nowhere"], 3, "nowhere"),
        (["--resume", "nowhere", "--recipe", "demo"], 2, "--recipe"),
        (["--resume", "."], 3, "run folder"),
        (["--no-such-flag"], 2, "--no-such-flag"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    cli: Cli, tmp_path: Path, arguments: list[str], code: int, named: str
) -> None:
    (tmp_path / "file").write_text("")
    got, out, err = cli("train", "--quiet", *arguments)
    assert got == code, err
    assert named in err
    assert out == ""
    if "--no-such-flag" not in arguments:
        assert err.count("\n") == 1, err
        assert err.startswith("fastcifar: ")
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_evaluate_refuses_what_is_no_run_or_another_models(cli: Cli, tmp_path: Path) -> None:
    code, _, err = cli("evaluate", str(tmp_path))
    assert (code, err.count("\n")) == (3, 1)
    code, out, err = cli("train", "--recipe", "demo", *QUICK, "--quiet", "--json")
    assert code == 0, err
    run = Path(json.loads(out)["run_dir"])
    metadata = load_weights(run / "last.safetensors")[1]
    save_weights(run / "last.safetensors", torch.nn.Linear(2, 2), metadata)
    code, _, err = cli("evaluate", str(run))
    assert (code, err.count("\n")) == (3, 1), err
    assert "another model" in err
    save_weights(run / "last.safetensors", torch.nn.Linear(2, 2), metadata | {"classes": ["x"] * 10})
    code, _, err = cli("evaluate", str(run))
    assert (code, err.count("\n")) == (3, 1), err
    assert "classes" in err


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fastcifar", "train", "--recipe", "demo", "--device", "cpu", "--no-amp"]
    command += ["--output", str(tmp_path), "--set", "training.log_every=1", "--epochs", "500"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/epochs.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    (run,) = tmp_path.iterdir()
    assert err.splitlines()[-1] == f"fastcifar: interrupted - go on with: fastcifar train --resume {run}"
    assert out == ""
    assert (run / "resume.pt").exists()
    assert not list(run.glob(".*partial"))
