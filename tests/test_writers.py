"""Writers that are missing or fail: refused before the data are read, or done without; closed on every way out."""

import json
import math
from pathlib import Path

import pytest
from test_cli import Cli, cli  # noqa: F401 - the fixture
from test_resume import StopAfter
from training_runs import make_material, run
from wandb_stand_in import StandIn, wandb  # noqa: F401 - the fixture

from fastcifar.dataset.image_set import Dataset
from fastcifar.errors import CheckFailedError, DeviceError
from fastcifar.training import trainer as trainer_module
from fastcifar.training import writers
from fastcifar.training.observer import Observer
from fastcifar.training.resume import resolve_resumed
from fastcifar.training.trainer import Interrupted

ON = "log.wandb=true"


class Listener(Observer):
    def __init__(self) -> None:
        self.messages: list[str] = []
        self.warnings: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def epochs(folder: str | Path) -> list[int]:
    return [json.loads(line)["epoch"] for line in (Path(folder) / "epochs.jsonl").open()]


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_named_before_any_data_are_looked_for(
    cli: Cli,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(writers, "installed_version", lambda package: None if package == name else "1")
    expected = f"fastcifar: --{name} needs the package {name} - pip install '.[{name}]'\n"
    for arguments in ([f"--{name}"], ["--set", f"log.{name}=true"]):
        code, out, err = cli("train", "--quiet", "--data-dir", "nowhere", *arguments)
        assert (code, out, err) == (4, "", expected)
    assert not (tmp_path / "runs").exists()


def test_both_are_settings_like_any_other(cli: Cli) -> None:  # noqa: F811
    code, out, _ = cli("train", "--dry-run", "--tensorboard", "--json")
    content = json.loads(out)
    assert code == 0
    assert content["config"]["log"] == {"tensorboard": True, "wandb": False}
    assert content["sources"]["log.tensorboard"] == "flag --tensorboard"
    assert "wandb            = False                    # default" in cli("train", "--dry-run")[1].splitlines()


def test_where_to_look_is_said(colours: Dataset, tmp_path: Path, wandb: StandIn) -> None:  # noqa: F811
    listener = Listener()
    run(make_material(colours, ON, "schedule.epochs=1"), tmp_path, listener)
    assert listener.messages == ["wandb: https://wandb.example/run"]
    assert listener.warnings == []


def test_one_that_cannot_be_started_is_done_without(colours: Dataset, tmp_path: Path, wandb: StandIn) -> None:  # noqa: F811
    wandb.fail("init")
    listener = Listener()
    result = run(make_material(colours, ON), tmp_path, listener)
    assert listener.warnings == ["wandb cannot be started: no network for init; training goes on without it"]
    assert epochs(result["run_dir"]) == [1, 2, 3]


def test_strict_makes_that_an_error_before_the_first_step(colours: Dataset, tmp_path: Path, wandb: StandIn) -> None:  # noqa: F811
    wandb.fail("init")
    with pytest.raises(DeviceError, match="wandb cannot be started: no network for init") as caught:
        run(make_material(colours, ON, "runtime.strict=true"), tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*/epochs.*"))


def test_one_that_fails_under_way_is_dropped_with_one_line(colours: Dataset, tmp_path: Path, wandb: StandIn) -> None:  # noqa: F811
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install '.[tensorboard]'")
    from test_tensorboard_writer import assert_scalars_are, kept

    wandb.fail("log", at_call=2)
    listener = Listener()
    result = run(make_material(colours, ON, "log.tensorboard=true", "runtime.strict=true"), tmp_path, listener)
    assert listener.warnings == ["wandb failed: no network for log; training goes on without it"]
    assert epochs(result["run_dir"]) == [1, 2, 3]
    assert [step for step, _ in wandb.runs[0].logged] == [1]
    assert wandb.runs[0].exit_codes == [1]
    assert_scalars_are(Path(result["run_dir"]) / "tensorboard", kept(result["run_dir"]))


def test_one_that_fails_at_the_end_leaves_the_result(colours: Dataset, tmp_path: Path, wandb: StandIn) -> None:  # noqa: F811
    wandb.fail("finish")
    listener = Listener()
    result = run(make_material(colours, ON, "schedule.epochs=1"), tmp_path, listener)
    assert len(listener.warnings) == 1
    assert json.loads((Path(result["run_dir"]) / "metrics.json").read_text())["val_acc"] == result["val_acc"]


def test_the_next_seed_tries_again(colours: Dataset, tmp_path: Path, wandb: StandIn) -> None:  # noqa: F811
    wandb.fail("init", at_call=1)
    listener = Listener()
    result = run(make_material(colours, ON, "training.runs=2", "schedule.epochs=1"), tmp_path, listener)
    assert len(listener.warnings) == 1
    assert [told.init["name"] for told in wandb.runs] == [f"{Path(result['run_dir']).name}/seed1"]


def test_it_is_closed_when_a_run_is_interrupted_or_fails(
    colours: Dataset,
    tmp_path: Path,
    wandb: StandIn,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(Interrupted):
        run(make_material(colours, ON), tmp_path, StopAfter(2, 3))
    original = trainer_module.TrainingStep.__call__

    def poisoned(self, images, labels, learning_rate):
        loss, correct = original(self, images, labels, learning_rate)
        return loss * math.nan, correct

    monkeypatch.setattr(trainer_module.TrainingStep, "__call__", poisoned)
    with pytest.raises(CheckFailedError):
        run(make_material(colours, ON), tmp_path)

    def stop_at_once(*arguments):
        raise KeyboardInterrupt  # the second Ctrl-C

    monkeypatch.setattr(trainer_module.TrainingStep, "__call__", stop_at_once)
    with pytest.raises(KeyboardInterrupt):
        run(make_material(colours, ON), tmp_path)
    assert [told.exit_codes for told in wandb.runs] == [[1], [1], [1]]
    assert all(told.summary == {} for told in wandb.runs)


def test_a_resumed_run_may_be_watched_otherwise(colours: Dataset, tmp_path: Path) -> None:
    folder = Path(run(make_material(colours, "schedule.epochs=1"), tmp_path)["run_dir"])
    resolved = resolve_resumed(folder, {"log.tensorboard": ("--tensorboard", True)}, ["log.wandb=true"])
    assert (resolved.config.log.tensorboard, resolved.config.log.wandb) == (True, True)
