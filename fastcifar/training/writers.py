"""Where else a run is written besides its folder: TensorBoard and Weights & Biases, for whoever asks for them."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from fastcifar.augment.requirements import installed_version
from fastcifar.config import LogConfig
from fastcifar.errors import DeviceError
from fastcifar.settings import ResolvedConfig
from fastcifar.training.observer import EpochRecord, Observer

TAGS = {
    "train/loss": "train_loss",
    "train/accuracy": "train_accuracy",
    "val/loss": "val_loss",
    "val/accuracy": "val_accuracy",
    "learning_rate": "learning_rate",
    "images_per_second": "images_per_second",
    "image_size": "image_size",
    "train_time_s": "train_time_s",
}
"""What a value is called there -> in `EpochRecord`. Both tools draw what shares a prefix side by side."""


class Writer(Protocol):
    """One such place. Its constructor takes the run folder and the configuration, and says where to look."""

    where: str

    def write_epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Values under the names of `TAGS`; an epoch that is there already may come again."""

    def write_result(self, result: dict[str, Any]) -> None:
        """What `--json` prints."""

    def close(self, finished: bool) -> None:
        """The run ended: finished, or interrupted or failed."""


def check_writers(log: LogConfig) -> None:
    """Refuse a writer that cannot be had, before any data are read.

    Raises:
        DeviceError: its package is not installed.
    """
    for name, wanted in asdict(log).items():
        if wanted and installed_version(name) is None:
            raise DeviceError(f"--{name} needs the package {name}", f"pip install '.[{name}]'")


class Writers:
    """The open writers of one run. One that fails is dropped with a warning; the run and the others go on."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._open: dict[str, Writer] = {}

    def open(self, name: str, make: Callable[[], Writer], past: Iterable[EpochRecord], strict: bool) -> None:
        """Start a writer with the epochs of a resumed run, of which it may have missed some.

        Raises:
            DeviceError: it cannot be started, and `strict` is set.
        """
        try:
            self._open[name] = writer = make()
        except Exception as error:  # a package of somebody else, which reaches for a network: anything may come
            if strict:
                raise DeviceError(
                    f"{name} cannot be started: {_first_line(error)}", f"leave --{name} or --strict out"
                ) from error
            self._observer.warning(f"{name} cannot be started: {_first_line(error)}; training goes on without it")
            return
        self._observer.message(f"{name}: {writer.where}")
        for record in past:
            self._write_epoch(record, [name])

    def write_epoch(self, record: EpochRecord) -> None:
        self._write_epoch(record, self._open)

    def write_result(self, result: dict[str, Any]) -> None:
        for name in list(self._open):
            self._guarded(name, lambda writer: writer.write_result(result))

    def close(self, finished: bool) -> None:
        for name in list(self._open):
            self._guarded(name, lambda writer: writer.close(finished))
        self._open.clear()

    def _write_epoch(self, record: EpochRecord, names: Iterable[str]) -> None:
        found = {tag: getattr(record, attribute) for tag, attribute in TAGS.items()}
        values = {tag: value for tag, value in found.items() if value is not None}
        for name in list(names):
            self._guarded(name, lambda writer: writer.write_epoch(record.epoch, values))

    def _guarded(self, name: str, call: Callable[[Writer], None]) -> None:
        writer = self._open.get(name)
        if writer is None:
            return
        try:
            call(writer)
        except Exception as error:
            del self._open[name]
            self._observer.warning(f"{name} failed: {_first_line(error)}; training goes on without it")
            with suppress(Exception):
                writer.close(False)


@contextmanager
def open_writers(
    resolved: ResolvedConfig, folder: Path, past: Iterable[EpochRecord], observer: Observer
) -> Iterator[Writers]:
    """The writers that the configuration asks for, closed however the run ends.

    Args:
        folder: the run folder, its configuration written.
        past: epochs of the run that a process before this one trained.

    Raises:
        DeviceError: one cannot be started, and `runtime.strict` is set.
    """
    from fastcifar.training.tensorboard_writer import TensorBoardWriter
    from fastcifar.training.wandb_writer import WandbWriter

    content = {"recipe": resolved.recipe} | resolved.config.to_dict()
    makers: dict[str, Callable[[], Writer]] = {
        "tensorboard": lambda: TensorBoardWriter(folder, content),
        "wandb": lambda: WandbWriter(folder, content),
    }
    writers, finished = Writers(observer), False
    try:
        for name, wanted in asdict(resolved.config.log).items():
            if wanted:
                writers.open(name, makers[name], past, resolved.config.runtime.strict)
        yield writers
        finished = True
    finally:
        writers.close(finished)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")
