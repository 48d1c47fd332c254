"""The loop on a small made-up set: it learns, stops, guards, resumes to the bit, and leaves a whole run folder."""

import dataclasses
import errno
import json
import math
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from fastcifar.config import Config, ResolvedConfig, ScheduleConfig, config_from_dict, resolve
from fastcifar.dataset.image_set import Dataset, ImageSet
from fastcifar.dataset.statistics import channel_statistics
from fastcifar.errors import CheckFailedError, DataError, UsageError
from fastcifar.loader.choose import LoaderChoice
from fastcifar.reevaluate import reevaluate
from fastcifar.runtime import choose_runtime
from fastcifar.training import trainer as trainer_module
from fastcifar.training.checkpoint import load_resume_state, load_weights
from fastcifar.training.material import Material
from fastcifar.training.observer import EpochRecord, Observer
from fastcifar.training.resume import resolve_resumed
from fastcifar.training.run_log import RunLog
from fastcifar.training.runs import train_runs

SETTINGS = [
    "schedule.epochs=3",
    "schedule.image_sizes=[[0.0, 16], [0.6, 32]]",
    "training.batch_size=50",
    "training.log_every=3",
    "optimizer.learning_rate=0.2",
    "optimizer.bias_lr_scale=2.0",
    "runtime.device=cpu",
    "runtime.amp=false",
    "runtime.compile=false",
    "runtime.threads=1",
]


def make_material(dataset: Dataset, *settings: str) -> Material:
    resolved = resolve("demo", settings=[*SETTINGS, *settings], environment={})
    statistics = channel_statistics(dataset.train.images)
    choice = LoaderChoice(resolved.config.loader.kind.replace("auto", "resident"), "test")
    return Material(resolved, choose_runtime(resolved.config.runtime), dataset, statistics, choice)


class Recorder(Observer):
    def __init__(self) -> None:
        self.records: list[EpochRecord] = []
        self.looks: list[tuple[int, int, float]] = []

    def steps_done(self, epoch: int, step: int, loss: float, images_per_second: float) -> None:
        self.looks.append((epoch, step, loss))

    def epoch_done(self, record: EpochRecord) -> None:
        self.records.append(record)


def run(material: Material, folder: Path, observer: Observer | None = None, **arguments: Any) -> dict[str, Any]:
    return train_runs(material, observer or Observer(), folder, process_started=0.0, **arguments)


def weights(folder: str | Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_weights(Path(folder) / f"{name}.safetensors")[0]


def assert_same_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0, msg=lambda text, name=name: f"{name}: {text}")


def test_it_learns_and_the_run_folder_tells_all(colours: Dataset, tmp_path: Path) -> None:
    recorder = Recorder()
    result = run(make_material(colours), tmp_path, recorder)
    assert result["val_acc"] > 60
    folder = Path(result["run_dir"])
    lines = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
    assert lines == [dataclasses.asdict(record) for record in recorder.records]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert [line["image_size"] for line in lines] == [16, 16, 32]
    assert lines[-1]["val_accuracy"] == result["val_acc"]
    assert lines[-1]["train_time_s"] == pytest.approx(sum(line["seconds"] for line in lines))
    assert lines[-1]["learning_rate"] < lines[1]["learning_rate"]
    assert [look[:2] for look in recorder.looks] == [(e, s) for e in (1, 2, 3) for s in (3, 6)]
    config = json.loads((folder / "config.json").read_text())
    assert config_from_dict(config["config"], "test").training.batch_size == 50
    assert config["sources"]["training.batch_size"] == "--set"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["val_acc"] == result["val_acc"]
    assert sum(map(sum, metrics["evaluation"]["confusion_matrix"])) == 100
    (environment,) = [json.loads(line) for line in (folder / "environment.jsonl").read_text().splitlines()]
    assert environment["versions"]["torch"] == torch.__version__.split("+")[0]
    assert sorted(path.name for path in folder.iterdir()) == [
        "best.safetensors",
        "config.json",
        "environment.jsonl",
        "epochs.jsonl",
        "last.safetensors",
        "metrics.json",
        "resume.pt",
    ]
    assert metrics["best"]["val_acc"] == max(line["val_accuracy"] for line in lines)


def test_weights_evaluate_to_the_reported_accuracy(
    colours: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(make_material(colours), tmp_path)
    monkeypatch.setattr("fastcifar.reevaluate.load_dataset", lambda *arguments: colours)
    assert reevaluate(Path(result["run_dir"]), device="cpu")["accuracy"] == result["val_acc"]
    other = dataclasses.replace(colours, classes=tuple("abcdefghij"))
    monkeypatch.setattr("fastcifar.reevaluate.load_dataset", lambda *arguments: other)
    with pytest.raises(DataError, match="classes"):
        reevaluate(Path(result["run_dir"]), device="cpu")


def test_the_same_seed_repeats_and_another_does_not(colours: Dataset, tmp_path: Path) -> None:
    first, again, other = (
        run(make_material(colours, f"training.seed={seed}", "schedule.epochs=1"), tmp_path) for seed in (1, 1, 2)
    )
    assert_same_weights(weights(first["run_dir"]), weights(again["run_dir"]))
    assert not torch.equal(weights(first["run_dir"])["head.weight"], weights(other["run_dir"])["head.weight"])


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


def test_the_target_ends_the_run(colours: Dataset, tmp_path: Path) -> None:
    recorder = Recorder()
    result = run(make_material(colours, "schedule.epochs=8", "training.target=20"), tmp_path, recorder)
    assert result["target_reached"] is True
    assert result["epochs"] == len(recorder.records) < 8
    assert result["time_to_target_s"] == recorder.records[-1].train_time_s
    assert all(record.val_accuracy is not None and record.val_accuracy < 20 for record in recorder.records[:-1])
    missed = run(make_material(colours, "schedule.epochs=1", "training.target=100"), tmp_path)
    assert (missed["target_reached"], missed["time_to_target_s"]) == (False, None)


def test_early_epochs_can_go_unevaluated(colours: Dataset, tmp_path: Path) -> None:
    recorder = Recorder()
    run(make_material(colours, "schedule.epochs=4", "training.evaluate_from=0.5"), tmp_path, recorder)
    assert [record.val_accuracy is None for record in recorder.records] == [True, True, False, False]


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(
    colours: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = trainer_module.TrainingStep.__call__, []

    def poisoned(self, images, labels, learning_rate):
        loss, correct = original(self, images, labels, learning_rate)
        calls.append(learning_rate)
        return (loss * math.nan if len(calls) == 11 else loss), correct

    monkeypatch.setattr(trainer_module.TrainingStep, "__call__", poisoned)
    with pytest.raises(CheckFailedError) as caught:
        run(make_material(colours), tmp_path)
    assert "at step 11 (epoch 2)" in str(caught.value)
    assert f"learning rate {calls[10]:.4g}" in str(caught.value)


def test_several_seeds_give_mean_and_spread(colours: Dataset, tmp_path: Path) -> None:
    material = make_material(colours, "training.runs=3", "training.seed=4", "schedule.epochs=1")
    result = run(material, tmp_path)
    accuracies = torch.tensor([one["val_acc"] for one in result["results"]], dtype=torch.float64)
    assert [one["seed"] for one in result["results"]] == [4, 5, 6]
    assert result["val_acc"] == pytest.approx(accuracies.mean().item())
    assert result["val_acc_std"] == pytest.approx(accuracies.std().item())
    folder = Path(result["run_dir"])
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "metrics.json", "seed4", "seed5", "seed6"]
    single = run(make_material(colours, "training.seed=5", "schedule.epochs=1"), tmp_path)
    assert_same_weights(weights(single["run_dir"]), weights(folder / "seed5"))


def test_a_batch_larger_than_the_set_is_refused_before_anything_is_written(colours: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batch_size"):
        run(make_material(colours, "training.batch_size=401"), tmp_path / "runs")
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())


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


def test_a_full_disk_is_named(colours: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match="No space left"):
        run(make_material(colours, "schedule.epochs=1"), tmp_path)
    assert not list(tmp_path.glob("*/.*partial"))


def test_an_epoch_that_ends_in_nonsense_is_not_saved(
    colours: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full((100, 10), math.nan), torch.zeros(100, dtype=torch.int64)

    monkeypatch.setattr(trainer_module, "predict_logits", broken)
    with pytest.raises(CheckFailedError, match="after epoch 1"):
        run(make_material(colours), tmp_path)
    (folder,) = tmp_path.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "environment.jsonl"]


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


def test_run_folders_never_collide(tmp_path: Path) -> None:
    folders = {RunLog.create(tmp_path, "x").folder for _ in range(5)}
    assert len(folders) == 5


def test_fractional_schedules_cover_every_epoch() -> None:
    config = dataclasses.replace(Config(), schedule=ScheduleConfig(epochs=7, image_sizes=((0.0, 16), (0.99, 32))))
    assert [config.schedule.image_size(epoch) for epoch in range(7)] == [16] * 7


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on a CPU")
def test_compiled_and_eager_training_agree_and_warming_up_changes_nothing(colours: Dataset, tmp_path: Path) -> None:
    material = make_material(colours, "schedule.epochs=1", "schedule.image_sizes=[[0.0, 8]]")
    compiled = dataclasses.replace(material, runtime=dataclasses.replace(material.runtime, compile=True))
    results = [run(one, tmp_path) for one in (material, compiled)]
    assert results[1]["warmup_time_s"] > 0 == results[0]["warmup_time_s"]
    eager, fused = (weights(result["run_dir"]) for result in results)
    for name in eager:
        torch.testing.assert_close(fused[name], eager[name], rtol=2e-3, atol=2e-3, msg=lambda m, n=name: f"{n}: {m}")


def test_a_compiler_that_fails_is_reported_and_done_without(
    colours: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward_backward, calls = trainer_module.TrainingStep.forward_backward, []

    def fail_at_the_second_size(self, images, labels):
        # Without a compiled call: what is tested is the way back.
        self.model._compiled_call_impl = None
        calls.append(images.shape[-1])
        if len(calls) == 2:
            raise RuntimeError("no registers left\nmore")
        return forward_backward(self, images, labels)

    monkeypatch.setattr(trainer_module.TrainingStep, "forward_backward", fail_at_the_second_size)
    warnings: list[str] = []
    observer = Observer()
    observer.warning = warnings.append  # pyright: ignore[reportAttributeAccessIssue]
    material = make_material(colours, "schedule.epochs=2", "schedule.image_sizes=[[0.0, 8], [0.5, 16]]")
    plain = run(material, tmp_path)
    calls.clear()
    material = dataclasses.replace(material, runtime=dataclasses.replace(material.runtime, compile=True))
    result = run(material, tmp_path, observer)
    assert calls[:2] == [8, 16]
    assert result["used"]["compile"] == "off"
    assert_same_weights(weights(plain["run_dir"]), weights(result["run_dir"]))
    assert len(warnings) == 1
    assert "no registers left" in warnings[0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("settings", [["runtime.compile=true"], ["runtime.amp_dtype=fp16"], ["runtime.amp=false"]])
def test_a_gpu_learns_what_a_cpu_learns(colours: Dataset, tmp_path: Path, settings: list[str]) -> None:
    material = make_material(colours, "runtime.amp=true", *settings, "runtime.device=cuda")
    result = run(material, tmp_path)
    assert result["device"].startswith("cuda")
    assert result["used"]["compile"] == ("on" if "compile" in settings[0] else "off")
    assert result["used"]["amp"] == (
        "off (fp32)" if "amp=" in settings[0] else settings[0][-4:].replace("true", "bf16")
    )
    assert result["val_acc"] > 60
