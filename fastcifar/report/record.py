"""What a run folder says: configuration, epochs, environments, result."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fastcifar.errors import DataError
from fastcifar.settings import ResolvedConfig
from fastcifar.training.observer import EpochRecord
from fastcifar.training.run_log import EPOCHS_FILE, METRICS_FILE, read_resolved_config

Line = TypeVar("Line")


@dataclass(frozen=True)
class RunRecord:
    """One run of one seed, as its folder tells it.

    Attributes:
        epochs: at least one.
        environments: one for each process that worked on the run; empty in a folder that lost the file.
        metrics: the result, the figures of its evaluation under "evaluation"; None while the run is not finished.
    """

    folder: Path
    resolved: ResolvedConfig
    epochs: tuple[EpochRecord, ...]
    environments: tuple[dict[str, Any], ...]
    metrics: dict[str, Any] | None

    @property
    def title(self) -> str:
        config = self.resolved.config
        return f"{config.model.name}, seed {config.training.seed}"


def read_record(folder: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        DataError: it is no run folder, damaged, or without a finished epoch.
    """
    resolved = read_resolved_config(folder)
    epochs = _lines(folder / EPOCHS_FILE, lambda content: EpochRecord(**content))
    if not epochs:
        raise DataError(f"{folder}: no epoch is finished", f"go on with it first: fastcifar train --resume {folder}")
    metrics = _read(folder / METRICS_FILE, lambda text: dict(json.loads(text)))
    return RunRecord(folder, resolved, epochs, _lines(folder / "environment.jsonl", dict), metrics)


def single_runs(folder: Path) -> list[Path]:
    """The folders of single runs that a run folder stands for: itself, or those of its seeds that have begun.

    Raises:
        DataError: no run folder, or several seeds none of which has begun.
    """
    training = read_resolved_config(folder).config.training
    if training.runs == 1:
        return [folder]
    seeds = range(training.seed, training.seed + training.runs)
    begun = [run for seed in seeds if (run := folder / f"seed{seed}").is_dir()]
    if not begun:
        raise DataError(f"{folder}: none of its {training.runs} runs is there", "train again")
    return begun


def _lines(path: Path, make: Callable[[dict[str, Any]], Line]) -> tuple[Line, ...]:
    return _read(path, lambda text: tuple(make(json.loads(line)) for line in text.splitlines())) or ()


def _read(path: Path, parse: Callable[[str], Line]) -> Line | None:
    """A file's content; None where it does not exist."""
    try:
        return parse(path.read_text())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: cannot be read, {error.strerror}", "check its permissions") from None
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged: {error}", "train again") from None
