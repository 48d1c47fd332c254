"""Weights & Biases: what its own offline file holds, and what a stand-in is told on every way out of a run."""

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_resume import StopAfter
from training_runs import Recorder, make_material, run
from wandb_stand_in import StandIn, wandb  # noqa: F401 - the fixture

from fastcifar.dataset.image_set import Dataset
from fastcifar.training.trainer import Interrupted
from fastcifar.training.wandb_writer import WandbWriter
from fastcifar.training.writers import TAGS

ON = "log.wandb=true"
MAGIC = b":W&B\xe1\xbe\x00"


def records(file: Path) -> Iterator[bytes]:
    """The records of a .wandb file: LevelDB's log format, in blocks of 32 KiB, after a header of seven bytes."""
    content = file.read_bytes()
    assert content[:7] == MAGIC
    position, parts = 7, b""
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
        checksum, size, kind = struct.unpack("<IHB", content[position : position + 7])
        data = content[position + 7 : position + 7 + size]
        assert checksum == zlib.crc32(data, zlib.crc32(bytes([kind])))
        parts += data
        position += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def history(file: Path) -> dict[int, dict[str, Any]]:
    """Step -> what was logged; no step may come twice."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]

    found = {}
    for data in records(file):
        record = Record.FromString(data)
        if record.WhichOneof("record_type") == "history":
            items = {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
            assert record.history.step.num not in found
            found[record.history.step.num] = {key: value for key, value in items.items() if not key.startswith("_")}
    return found


@pytest.mark.slow
def test_the_offline_file_of_the_last_process_holds_every_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = pytest.importorskip("wandb", reason="wandb is not installed: pip install '.[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = tmp_path / "demo-seed0"
    folder.mkdir()
    epochs = {epoch: {"train/loss": 1 / epoch, "image_size": 16.0} for epoch in (1, 2, 3, 4)}
    for last in (2, 4):  # a process that was interrupted, and the one that resumed
        writer = WandbWriter(folder, {"recipe": "demo", "training": {"seed": 3}})
        for epoch in range(1, last + 1):
            writer.write_epoch(epoch, epochs[epoch])
        writer.write_result({"val_acc": 61.5})
        writer.close(finished=True)
    package.teardown()  # as at the end of a process: until then its files may lie in the memory of wandb's own process
    files = sorted((folder / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime)
    assert [len(history(file)) for file in files] == [2, 4]
    assert history(files[-1]) == epochs
    assert writer.where.endswith(f"wandb sync {files[-1].parent}")
    (run_id,) = {file.stem.removeprefix("run-") for file in files}
    assert run_id == (folder / "wandb" / "run-id").read_text().strip()


def test_what_it_is_told_of_a_run(colours: Dataset, tmp_path: Path, wandb: StandIn) -> None:  # noqa: F811
    recorder = Recorder()
    material = make_material(colours, ON, "training.evaluate_from=0.4")
    result = run(material, tmp_path, recorder)
    (told,) = wandb.runs
    folder = Path(result["run_dir"])
    assert (told.init["project"], told.init["name"], told.init["group"]) == ("fastcifar", folder.name, None)
    assert told.init["dir"] == folder
    assert told.init["config"] == {"recipe": "demo"} | material.config.to_dict()
    assert "mode" not in told.init  # so that WANDB_MODE decides
    expected = [
        (r.epoch, {tag: getattr(r, name) for tag, name in TAGS.items() if getattr(r, name) is not None})
        for r in recorder.records
    ]
    assert told.logged == expected
    assert ["val/accuracy" in values for _, values in told.logged] == [False, True, True]
    assert told.summary == {"result": result}
    assert told.exit_codes == [0]


def test_a_resumed_run_goes_on_as_the_same_one(
    colours: Dataset,
    tmp_path: Path,
    wandb: StandIn,  # noqa: F811
) -> None:
    with pytest.raises(Interrupted) as stop:
        run(make_material(colours, ON), tmp_path, StopAfter(3, 3))
    wandb.starting_step = 3  # the server has epochs 1 and 2
    run(make_material(colours, ON), tmp_path, resume=Path(str(stop.value)))
    first, second = wandb.runs
    assert first.exit_codes == [1]
    assert second.exit_codes == [0]
    assert first.init["id"] == second.init["id"]
    assert second.init["resume"] == "allow"
    assert [epoch for epoch, _ in first.logged + second.logged] == [1, 2, 3]


def test_epochs_that_the_server_lacks_are_sent_by_the_resumed_run(
    colours: Dataset,
    tmp_path: Path,
    wandb: StandIn,  # noqa: F811
) -> None:
    wandb.fail("log", at_call=2)
    with pytest.raises(Interrupted) as stop:
        run(make_material(colours, ON), tmp_path, StopAfter(3, 3))
    wandb.starting_step = 2
    run(make_material(colours, ON), tmp_path, resume=Path(str(stop.value)))
    assert [epoch for one in wandb.runs for epoch, _ in one.logged] == [1, 2, 3]


def test_every_seed_is_a_run_of_one_group(colours: Dataset, tmp_path: Path, wandb: StandIn) -> None:  # noqa: F811
    result = run(make_material(colours, ON, "training.runs=2", "schedule.epochs=1"), tmp_path)
    name = Path(result["run_dir"]).name
    assert [told.init["name"] for told in wandb.runs] == [f"{name}/seed0", f"{name}/seed1"]
    assert {told.init["group"] for told in wandb.runs} == {name}
    assert len({told.init["id"] for told in wandb.runs}) == 2
    assert [told.exit_codes for told in wandb.runs] == [[0], [0]]


def test_the_project_can_be_named(
    colours: Dataset,
    tmp_path: Path,
    wandb: StandIn,  # noqa: F811
    monkeypatch,
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    run(make_material(colours, ON, "schedule.epochs=1"), tmp_path)
    assert wandb.runs[0].init["project"] == "mine"
