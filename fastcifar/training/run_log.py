"""The run folder: configuration, environment, a JSON line an epoch, metrics."""

import importlib.metadata
import json
import os
import platform
import shlex
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from fastcifar import __version__
from fastcifar.atomic import written_whole
from fastcifar.errors import DataError, UsageError
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
        folder.mkdir()
        return RunLog(folder)

    def write_start(self, config: dict[str, Any], environment: dict[str, Any]) -> None:
        """Keep what the run is and where it runs, before the first step."""
        self._write_json(CONFIG_FILE, config)
        self._write_json("environment.json", environment)

    def append_epoch(self, record: EpochRecord) -> None:
        with (self.folder / EPOCHS_FILE).open("a") as file:
            file.write(json.dumps(asdict(record)) + "\n")

    def keep_epochs(self, count: int) -> None:
        """Drop lines beyond the first `count`: a resumed run writes them again."""
        path = self.folder / EPOCHS_FILE
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        if len(lines) > count:
            with written_whole(path) as partial:
                partial.write_text("".join(lines[:count]))

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        self._write_json(METRICS_FILE, metrics)

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        with written_whole(self.folder / name) as partial:
            partial.write_text(json.dumps(content, indent=2) + "\n")


def read_run_config(folder: Path) -> dict[str, Any]:
    """The resolved configuration of a run folder, as written by `RunLog.write_start`.

    Raises:
        DataError: the folder is missing, no run, or its configuration is damaged.
    """
    path = folder / CONFIG_FILE
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder", "name a run folder, by default below ./runs")
    try:
        content = json.loads(path.read_text())
        if not {"recipe", "config", "sources"} <= content.keys():
            raise ValueError("a key is missing")
        return content
    except FileNotFoundError:
        runs = sorted(run.parent.name for run in folder.glob(f"*/{CONFIG_FILE}"))
        hint = f"it holds runs: {', '.join(runs[:4])}" if runs else f"a run folder has a {CONFIG_FILE}"
        raise DataError(f"{folder}: not a run folder", hint) from None
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path}: damaged: {error}", "train again") from None


def describe_environment() -> dict[str, Any]:
    """Versions and hardware, as far as they can change a figure."""
    packages = ("torch", "torchvision", "triton", "numpy")
    versions = {name: _version(name) for name in packages}
    gpu = None
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        gpu = {"name": properties.name, "memory_mib": properties.total_memory >> 20, "cuda": torch.version.cuda}
    return {
        "fastcifar": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpu_count": len(os.sched_getaffinity(0)),
        "torch_threads": torch.get_num_threads(),
        "gpu": gpu,
        "versions": versions,
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def cpu_name() -> str:
    """The processor's name as the kernel reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
