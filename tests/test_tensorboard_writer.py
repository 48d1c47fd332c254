"""What TensorBoard's own reader finds: every value once, whatever happened to the run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_resume import StopAfter
from training_runs import Recorder, make_material, run

from fastcifar.dataset.image_set import Dataset
from fastcifar.training.observer import EpochRecord
from fastcifar.training.trainer import Interrupted
from fastcifar.training.writers import TAGS

pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install '.[tensorboard]'")

ON = "log.tensorboard=true"


def read(folder: str | Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return events


def assert_scalars_are(folder: str | Path, records: list[EpochRecord]) -> None:
    events = read(folder)
    assert set(events.Tags()["scalars"]) == set(TAGS)
    for tag, attribute in TAGS.items():
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        values = {record.epoch: getattr(record, attribute) for record in records}
        expected = [(epoch, value) for epoch, value in values.items() if value is not None]
        assert [step for step, _ in found] == [epoch for epoch, _ in expected], tag
        np.testing.assert_allclose([value for _, value in found], [value for _, value in expected], rtol=1e-6)
    times = [event.wall_time for event in events.Scalars("train/loss")]
    trained = [record.train_time_s for record in records]
    np.testing.assert_allclose(np.diff(times), np.diff(trained), atol=1e-3)  # TensorBoard's "relative" axis


def text(folder: str | Path, tag: str) -> Any:
    """By the reader behind TensorBoard's pages; the other one never withdraws a text."""
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    (event,) = events.Tensors(f"{tag}/text_summary")
    return json.loads(event.tensor_proto.string_val[0].decode().removeprefix("```json").removesuffix("```"))


def kept(folder: str | Path) -> list[EpochRecord]:
    return [EpochRecord(**json.loads(line)) for line in (Path(folder) / "epochs.jsonl").open()]


def make_older(folder: Path) -> None:
    """Files are read in the order of the seconds in their names, and a test resumes within one."""
    for number, path in enumerate(sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)):
        path.rename(folder / f"events.out.tfevents.{number:010d}.older")


def test_a_run_and_its_configuration_and_its_result(colours: Dataset, tmp_path: Path) -> None:
    recorder = Recorder()
    material = make_material(colours, ON, "training.evaluate_from=0.4")
    result = run(material, tmp_path, recorder)
    assert [record.val_loss is None for record in recorder.records] == [True, False, False]
    assert_scalars_are(Path(result["run_dir"]) / "tensorboard", recorder.records)
    events = Path(result["run_dir"]) / "tensorboard"
    assert text(events, "result") == result
    configuration = text(events, "configuration")
    assert configuration.pop("recipe") == "demo"
    assert configuration == json.loads(json.dumps(material.config.to_dict()))


def test_without_being_asked_for_nothing_is_written(colours: Dataset, tmp_path: Path) -> None:
    result = run(make_material(colours, "schedule.epochs=1"), tmp_path)
    assert not [path for path in Path(result["run_dir"]).iterdir() if path.is_dir()]


@pytest.mark.parametrize("at", [(1, 3), (2, 6), (3, 3)])
def test_a_resumed_run_neither_loses_nor_doubles_an_epoch(
    colours: Dataset, tmp_path: Path, at: tuple[int, int]
) -> None:
    with pytest.raises(Interrupted) as stop:
        run(make_material(colours, ON), tmp_path, StopAfter(*at))
    folder = Path(str(stop.value))
    assert len(read(folder / "tensorboard").Scalars("train/loss") if at[0] > 1 else []) == at[0] - 1
    # As if the process had been killed after it wrote an epoch and before it wrote the checkpoint.
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard")) as events:
        events.add_scalar("train/loss", 1e6, at[0])
    make_older(folder / "tensorboard")
    result = run(make_material(colours, ON), tmp_path, resume=folder)
    assert [record.epoch for record in kept(folder)] == [1, 2, 3]
    assert_scalars_are(folder / "tensorboard", kept(folder))
    assert text(folder / "tensorboard", "configuration")["recipe"] == "demo"
    assert text(folder / "tensorboard", "result") == result


def test_asked_for_late_it_gets_the_earlier_epochs_too(colours: Dataset, tmp_path: Path) -> None:
    with pytest.raises(Interrupted) as stop:
        run(make_material(colours), tmp_path, StopAfter(3, 3))
    folder = Path(str(stop.value))
    assert not (folder / "tensorboard").exists()
    run(make_material(colours, ON), tmp_path, resume=folder)
    assert_scalars_are(folder / "tensorboard", kept(folder))


def test_every_seed_writes_into_its_own_folder(colours: Dataset, tmp_path: Path) -> None:
    result = run(make_material(colours, ON, "training.runs=2", "schedule.epochs=2"), tmp_path)
    for seed in (0, 1):
        folder = Path(result["run_dir"]) / f"seed{seed}"
        assert_scalars_are(folder / "tensorboard", kept(folder))
        assert text(folder / "tensorboard", "configuration")["training"]["seed"] == seed
