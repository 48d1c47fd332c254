"""Interrupted and finished runs: resumed to the bit, never mixed up, damage named."""

import dataclasses
import json
import os
import signal
import threading
from pathlib import Path

import pytest
import torch
from training_runs import assert_same_weights, make_material, run, weights

from fastcifar.dataset.image_set import Dataset, ImageSet
from fastcifar.errors import DataError, UsageError
from fastcifar.reevaluate import reevaluate
from fastcifar.settings import ResolvedConfig, resolve
from fastcifar.training import trainer as trainer_module
from fastcifar.training.checkpoint import load_resume_state, load_weights
from fastcifar.training.observer import EpochRecord, Observer
from fastcifar.training.resume import resolve_resumed
from fastcifar.training.run_log import RunLog


class StopAfter(Observer):
    """Sends SIGINT at a look at the loss, as Ctrl-C would."""

    def __init__(self, epoch: int, step: int) -> None:
        self.at = (epoch, step)

    def steps_done(self, epoch: int, step: int, loss: float, images_per_second: float) -> None:
        if (epoch, step) == self.at:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("loader", ["resident", "workers"])
@pytest.mark.parametrize("at", [(1, 3), (2, 6), (3, 3)])
def test_an_interrupted_run_resumes_to_the_bit(
    colours: Dataset, tmp_path: Path, at: tuple[int, int], loader: str
) -> None:
    material = make_material(colours, f"loader.kind={loader}", "loader.workers=1")
    whole = run(material, tmp_path / "whole")
    with pytest.raises(trainer_module.Interrupted) as stop:
        run(material, tmp_path / "stopped", StopAfter(*at))
    folder = Path(str(stop.value))
    state = load_resume_state(folder)
    assert (state["progress"]["epochs_done"], state["progress"]["steps_done"]) == (at[0] - 1, at[1])
    resumed = run(material, tmp_path / "stopped", resume=folder)
    assert resumed["run_dir"] == str(folder)
    assert resumed["epochs"] == 3
    assert resumed["cold_time_s"] is None
    assert len((folder / "environment.jsonl").read_text().splitlines()) == 2
    assert_same_weights(weights(whole["run_dir"]), weights(folder))
    lines = [[json.loads(line) for line in (Path(f) / "epochs.jsonl").open()] for f in (whole["run_dir"], folder)]
    for expected, found in zip(*lines, strict=True):
        for key in ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate"):
            assert found[key] == pytest.approx(expected[key], rel=1e-6), key


def test_handlers_are_given_back(colours: Dataset, tmp_path: Path) -> None:
    assert threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    run(make_material(colours, "schedule.epochs=1"), tmp_path)
    assert signal.getsignal(signal.SIGINT) is before


def test_resume_refuses_what_would_make_it_another_run(colours: Dataset, tmp_path: Path) -> None:
    result = run(make_material(colours, "schedule.epochs=1"), tmp_path)
    folder = Path(result["run_dir"])
    moved = resolve_resumed(folder, {"data.dir": ("--data-dir", "/elsewhere")}, ["runtime.threads=2"])
    assert (moved.config.data.dir, moved.config.runtime.threads) == ("/elsewhere", 2)
    same = resolve_resumed(folder, {"training.seed": ("--seed", 0)}, [])
    assert isinstance(same, ResolvedConfig)
    for key, value in (("training.seed", 9), ("training.target", 10.0), ("schedule.epochs", 2)):
        with pytest.raises(UsageError, match=key.replace(".", r"\.")):
            resolve_resumed(folder, {key: ("--flag", value)}, [])


def test_resume_names_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        resolve_resumed(tmp_path / "nothing", {}, [])
    with pytest.raises(DataError, match="not a run folder"):
        resolve_resumed(tmp_path, {}, [])
    whole = resolve("demo", environment={}).to_dict()
    unknown = whole | {"config": whole["config"] | {"training": {"batchsize": 3}}}
    wrong = whole | {"config": whole["config"] | {"training": {"batch_size": -3}}}
    for content in ("{", "[]", "3", '{"config": null}', json.dumps(unknown), json.dumps(wrong)):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(DataError, match=r"config\.json: damaged"):
            resolve_resumed(tmp_path, {}, [])
    (tmp_path / "config.json").write_text(json.dumps(whole | {"sources": {}}))
    assert resolve_resumed(tmp_path, {}, []).config == resolve("demo", environment={}).config


def test_a_data_folder_from_the_environment_is_not_tied_to_the_run(tmp_path: Path) -> None:
    for name, environment, expected in (("a", {"FASTCIFAR_DATA_DIR": "/then"}, ""), ("b", {}, "/named")):
        settings = [] if environment else ["data.dir=/named"]
        folder = RunLog.create(tmp_path, name)
        folder.write_config(resolve("demo", settings=settings, environment=environment).to_dict())
        assert resolve_resumed(folder.folder, {}, []).config.data.dir == expected


def test_a_checkpoint_of_another_model_is_named(colours: Dataset, tmp_path: Path) -> None:
    result = run(make_material(colours, "schedule.epochs=1"), tmp_path)
    other = make_material(colours, "schedule.epochs=2", "model.name=c1c2c3c40-accuracy")
    folder = Path(result["run_dir"])
    (folder / "metrics.json").unlink()  # as if it had been interrupted
    with pytest.raises(DataError, match="another model"):
        run(other, tmp_path, resume=folder)
    paler = ImageSet(colours.train.images // 2, colours.train.labels)
    with pytest.raises(DataError, match="other data"):
        run(make_material(dataclasses.replace(colours, train=paler)), tmp_path, resume=folder)
    fewer = make_material(colours, "training.batch_size=25")
    with pytest.raises(DataError, match="does not fit"):
        run(fewer, tmp_path, resume=folder)
    torch.save({"epoch": 3}, folder / "resume.pt")
    with pytest.raises(DataError, match="does not fit"):
        run(make_material(colours), tmp_path, resume=folder)


def test_a_finished_run_is_not_measured_again(colours: Dataset, tmp_path: Path) -> None:
    result = run(make_material(colours, "schedule.epochs=1"), tmp_path)
    folder = Path(result["run_dir"])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run(make_material(colours, "schedule.epochs=1"), tmp_path, resume=folder) == result
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


class StopInEvaluation(Observer):
    """Sends SIGINT while the last epoch of the first run is being evaluated."""

    def epoch_done(self, record: EpochRecord) -> None:
        if record.epoch == 3:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("stop", [StopAfter(2, 3), StopInEvaluation()])
def test_several_runs_resume_as_several_runs(colours: Dataset, tmp_path: Path, stop: Observer) -> None:
    material = make_material(colours, "training.runs=2")
    whole = run(material, tmp_path / "whole")
    with pytest.raises(trainer_module.Interrupted) as interrupt:
        run(material, tmp_path / "stopped", stop)
    folder = Path(str(interrupt.value))
    assert not (folder / "seed1").exists()
    assert resolve_resumed(folder, {}, []).config.training.runs == 2
    resumed = run(material, tmp_path / "stopped", resume=folder)
    assert [one["seed"] for one in resumed["results"]] == [0, 1]
    for seed in (0, 1):
        assert_same_weights(weights(Path(whole["run_dir"]) / f"seed{seed}"), weights(folder / f"seed{seed}"))
    assert json.loads((folder / "metrics.json").read_text())["val_acc"] == pytest.approx(whole["val_acc"])
    with pytest.raises(DataError, match="several runs"):
        reevaluate(folder, device="cpu")


def test_damaged_files_are_named(colours: Dataset, tmp_path: Path) -> None:
    folder = Path(run(make_material(colours, "schedule.epochs=1"), tmp_path)["run_dir"])
    resume = folder / "resume.pt"
    resume.write_bytes(resume.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"resume\.pt: damaged"):
        load_resume_state(folder)
    resume.unlink()
    with pytest.raises(DataError, match="nothing to resume"):
        load_resume_state(folder)
    last = folder / "last.safetensors"
    last.write_bytes(last.read_bytes()[:100])
    with pytest.raises(DataError, match=r"last\.safetensors"):
        load_weights(last)
