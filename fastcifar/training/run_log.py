"""The run folder: configuration, environment, a JSON line and a CSV row an epoch, metrics."""

import csv
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from fastcifar.atomic import write_errors_named, written_whole
from fastcifar.config import KEY_TYPES
from fastcifar.errors import DataError, UsageError
from fastcifar.settings import ResolvedConfig, config_from_dict
from fastcifar.training.observer import EpochRecord

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.json"
EPOCHS_FILE = "epochs.jsonl"
TABLE_FILE = "epochs.csv"


class RunLog:
    """Writes the files of one run folder.

    Attributes:
        folder: the run folder; it exists.
        followers: hear of every epoch once it is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.followers: list[Callable[[EpochRecord], None]] = []

    @classmethod
    def create(cls, parent: Path, name: str) -> "RunLog":
        """Make a new folder `parent/DATE-TIME-name`; a number is added where it is taken.

        Raises:
            UsageError: the place cannot be written to.
        """
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        for attempt in range(1, 1000):
            folder = parent / (f"{stamp}-{name}" if attempt == 1 else f"{stamp}-{name}-{attempt}")
            try:
                folder.mkdir(parents=True)
                return cls(folder)
            except FileExistsError:
                continue
            except OSError as error:
                raise UsageError(
                    f"cannot make a run folder in {parent}: {error.strerror}", "name another one with --output"
                ) from None
        raise UsageError(f"{parent}: too many runs in one second", "name another folder with --output")

    def subfolder(self, name: str) -> "RunLog":
        """A new run folder inside this one."""
        folder = self.folder / name
        with write_errors_named(folder):
            folder.mkdir(exist_ok=True)
        return RunLog(folder)

    def write_config(self, resolved: dict[str, Any]) -> None:
        """Keep what the run is, before its first step."""
        self._write_json(CONFIG_FILE, resolved)

    def append_environment(self, environment: dict[str, Any]) -> None:
        """Add where the run runs: a JSON line for each process that worked on it."""
        self._append_line("environment.jsonl", environment)

    def append_epoch(self, record: EpochRecord) -> None:
        """Add an epoch to `epochs.jsonl` and, in the same columns, to `epochs.csv`."""
        self._append_line(EPOCHS_FILE, asdict(record))
        table = self.folder / TABLE_FILE
        with write_errors_named(table), table.open("a", newline="") as file:
            _write_rows(file, [record], header=file.tell() == 0)
        for follow in self.followers:
            follow(record)

    def keep_epochs(self, count: int) -> list[EpochRecord]:
        """Drop epochs beyond the first `count`, which a resumed run writes again, and return the others.

        The table is made anew from the JSON lines: a process that was killed may have left it a row behind them.

        Raises:
            DataError: the JSON lines are damaged.
        """
        path = self.folder / EPOCHS_FILE
        lines = path.read_text().splitlines(keepends=True)[:count] if path.exists() else []
        try:
            records = [EpochRecord(**json.loads(line)) for line in lines]
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}: damaged: {error}", "train again") from None
        with written_whole(path) as partial:
            partial.write_text("".join(lines))
        with written_whole(self.folder / TABLE_FILE) as partial, partial.open("w", newline="") as file:
            _write_rows(file, records, header=True)
        return records

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        self._write_json(METRICS_FILE, metrics)

    def _append_line(self, name: str, content: dict[str, Any]) -> None:
        with write_errors_named(self.folder / name), (self.folder / name).open("a") as file:
            file.write(json.dumps(content, allow_nan=False) + "\n")

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        with written_whole(self.folder / name) as partial:
            partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def _write_rows(file: TextIO, records: Iterable[EpochRecord], header: bool) -> None:
    """Rows of a CSV table; the cell of a value that is None stays empty."""
    writer = csv.DictWriter(file, [field.name for field in fields(EpochRecord)], lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(asdict(record) for record in records)


def read_resolved_config(folder: Path) -> ResolvedConfig:
    """The resolved configuration of a run folder, as written by `RunLog.write_config`.

    A data folder that came from the environment is left out: it belonged to that machine and day, and the
    environment of now is asked again.

    Raises:
        DataError: the folder is missing, no run, or its configuration is damaged.
    """
    path = folder / CONFIG_FILE
    try:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder", "name a run folder, by default below ./runs")
        content = json.loads(path.read_text())
        sources = dict.fromkeys(KEY_TYPES, "default") | content["sources"]
        if sources["data.dir"].startswith("environment"):
            content["config"]["data"]["dir"] = ""
        return ResolvedConfig(config_from_dict(content["config"], str(path)), content["recipe"], sources)
    except FileNotFoundError:
        raise DataError(f"{folder}: not a run folder", f"a run folder has a {CONFIG_FILE}") from None
    except OSError as error:
        raise DataError(f"{folder}: cannot be read, {error.strerror}", "check its permissions") from None
    except (ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        raise DataError(f"{path}: damaged: {error}", "train again") from None


def read_result(folder: Path) -> dict[str, Any]:
    """The result of a finished run, as it was printed.

    Raises:
        DataError: it is damaged.
    """
    path = folder / METRICS_FILE
    try:
        return {key: value for key, value in json.loads(path.read_text()).items() if key != "evaluation"}
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: damaged: {error}", "train again") from None
