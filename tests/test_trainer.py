"""The loop on a small made-up set: it learns, stops, guards, and leaves a whole run folder."""

import dataclasses
import errno
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import Recorder, assert_same_weights, make_material, run, weights

from fastcifar.config import Config, ScheduleConfig
from fastcifar.dataset.image_set import Dataset
from fastcifar.errors import CheckFailedError, DataError, UsageError
from fastcifar.reevaluate import reevaluate
from fastcifar.settings import config_from_dict
from fastcifar.training import trainer as trainer_module
from fastcifar.training.observer import Observer
from fastcifar.training.run_log import RunLog


def test_it_learns_and_the_run_folder_tells_all(colours: Dataset, tmp_path: Path) -> None:
    recorder = Recorder()
    result = run(make_material(colours, "optimizer.learning_rate=0.1"), tmp_path, recorder)
    assert result["val_acc"] > 60  # of ten classes
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
        "epochs.csv",
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
    assert [one["cold_time_s"] is None for one in result["results"]] == [False, True, True]
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

    warnings: list[str] = []
    observer = Observer()
    observer.warning = warnings.append  # pyright: ignore[reportAttributeAccessIssue]
    material = make_material(colours, "schedule.epochs=2", "schedule.image_sizes=[[0.0, 8], [0.5, 16]]")
    plain = run(material, tmp_path)
    monkeypatch.setattr(trainer_module.TrainingStep, "forward_backward", fail_at_the_second_size)
    material = dataclasses.replace(material, runtime=dataclasses.replace(material.runtime, compile=True))
    result = run(material, tmp_path, observer)
    assert sorted(calls[:2]) == [8, 16]
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
