"""The run folder: configuration, environment, a JSON line an epoch, metrics."""

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from fastcifar.atomic import write_errors_named, written_whole
from fastcifar.config import KEY_TYPES
from fastcifar.errors import DataError, UsageError
from fastcifar.settings import ResolvedConfig, config_from_dict
from fastcifar.training.observer import EpochRecord

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.json"
EPOCHS_FILE = "epochs.jsonl"


class RunLog:
    """Writes the files of one run folder.

    Attributes:
        folder: the run folder; it exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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
        self._append_line(EPOCHS_FILE, asdict(record))

    def keep_epochs(self, count: int) -> None:
        """Drop lines beyond the first `count`: a resumed run writes them again."""
        path = self.folder / EPOCHS_FILE
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        if len(lines) > count:
            with written_whole(path) as partial:
                partial.write_text("".join(lines[:count]))

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        self._write_json(METRICS_FILE, metrics)

    def _append_line(self, name: str, content: dict[str, Any]) -> None:
        with write_errors_named(self.folder / name), (self.folder / name).open("a") as file:
            file.write(json.dumps(content, allow_nan=False) + "\n")

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        with written_whole(self.folder / name) as partial:
            partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


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
