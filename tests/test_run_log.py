"""The epochs of a run folder: the same in JSON lines and in a table, and cut back together."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcifar.errors import DataError
from fastcifar.training.observer import EpochRecord
from fastcifar.training.run_log import RunLog

COLUMNS = [field.name for field in dataclasses.fields(EpochRecord)]


def record(epoch: int, evaluated: bool = True) -> EpochRecord:
    """Numbers with all their digits, so that none may be rounded on the way."""
    draws = np.random.default_rng(epoch).normal(size=8).tolist()
    val = draws[2:4] if evaluated else [None, None]
    return EpochRecord(epoch, 24, *draws[:2], *val, *draws[4:])


def table(folder: Path) -> list[list[str]]:
    with (folder / "epochs.csv").open(newline="") as file:
        return list(csv.reader(file))


def as_cells(lines: list[dict[str, Any]]) -> list[list[str]]:
    return [["" if line[column] is None else json.dumps(line[column]) for column in COLUMNS] for line in lines]


def json_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]


def test_the_table_holds_what_the_json_lines_hold(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    for epoch in (1, 2, 3):
        log.append_epoch(record(epoch, evaluated=epoch > 1))
        assert table(tmp_path) == [COLUMNS, *as_cells(json_lines(tmp_path))]
    assert [row[0] for row in table(tmp_path)] == ["epoch", "1", "2", "3"]
    column = COLUMNS.index("val_loss")
    assert [row[column] for row in table(tmp_path)[1:3]] == ["", repr(record(2).val_loss)]
    assert b"\r" not in (tmp_path / "epochs.csv").read_bytes()


@pytest.mark.parametrize("fault", ["", "a row too many", "a row torn apart", "no table"])
@pytest.mark.parametrize("count", [0, 2, 3, 4])
def test_what_is_kept_stands_in_both_files(tmp_path: Path, count: int, fault: str) -> None:
    log, path = RunLog(tmp_path), tmp_path / "epochs.csv"
    for epoch in (1, 2, 3):
        log.append_epoch(record(epoch))
    if fault == "a row too many":
        path.write_text(path.read_text() + path.read_text().splitlines(keepends=True)[-1])
    elif fault == "a row torn apart":
        path.write_text(path.read_text()[:-20])
    elif fault == "no table":
        path.unlink()
    assert log.keep_epochs(count) == [record(epoch) for epoch in (1, 2, 3)[:count]]
    assert len(json_lines(tmp_path)) == min(count, 3)
    log.append_epoch(record(9))
    assert table(tmp_path) == [COLUMNS, *as_cells(json_lines(tmp_path))]
    assert [int(row[0]) for row in table(tmp_path)[1:]] == [*(1, 2, 3)[:count], 9]


def test_a_run_without_epochs_has_an_empty_table(tmp_path: Path) -> None:
    assert RunLog(tmp_path).keep_epochs(0) == []
    assert table(tmp_path) == [COLUMNS]


@pytest.mark.parametrize("line", ['{"epoch": 1', '{"epoch": 1}', "3"])
def test_damage_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "epochs.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=r"epochs\.jsonl: damaged"):
        RunLog(tmp_path).keep_epochs(1)
