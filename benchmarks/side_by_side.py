"""Loaders measured in turn: an epoch of each, round after round, so that a drifting machine treats all alike."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from fastcifar.errors import DeviceError
from fastcifar.loader.contract import Batch

Epoch = Callable[[], Iterable[Batch]]
"""Starts an epoch: a batch is float32 [B, 3, 32, 32] and int64 [B]."""

PAUSE = 0.2
"""Seconds between two epochs, for what the one before still reads ahead."""


class SideBySide:
    """The entries of one comparison.

    Attributes:
        rates: by entry, "images_per_s" and "images_per_cpu_s", one figure a round.
        left_out: by entry, why it is not measured.
    """

    def __init__(self) -> None:
        self.rates: dict[str, dict[str, list[float]]] = {}
        self.left_out: dict[str, str] = {}
        self._epochs: dict[str, Epoch] = {}
        self._order: list[str] = []

    def add(self, name: str, build: Callable[[], Epoch]) -> None:
        """Build an entry and run an epoch to warm it up; one that lacks a package is left out."""
        try:
            epoch = build()
        except DeviceError as error:
            self.left_out[name] = str(error)
            return
        for images, labels in epoch():
            assert images.shape == (len(labels), 3, 32, 32), name
            assert images.dtype == torch.float32, name
            assert labels.dtype == torch.int64, name
        self._epochs[name] = epoch
        self._order.append(name)
        self.rates[name] = {"images_per_s": [], "images_per_cpu_s": []}

    def measure_round(self) -> None:
        """An epoch of every entry; every other round from the last entry to the first."""
        for name in self._order:
            time.sleep(PAUSE)
            cpu, start = cpu_seconds(), time.perf_counter()
            images = sum(len(labels) for _, labels in self._epochs[name]())
            seconds = time.perf_counter() - start
            self.rates[name]["images_per_s"].append(images / seconds)
            self.rates[name]["images_per_cpu_s"].append(images / (cpu_seconds() - cpu))
        self._order.reverse()

    def record(self) -> dict[str, Any]:
        """For a benchmark's `extra_info`, which `table` reads and `--benchmark-json` writes."""
        return {"rates": self.rates, "left_out": self.left_out}


def cpu_seconds() -> float:
    """Processor time of this process and its living workers, in steps of 10 ms for the workers."""
    ticks = 0
    for process in multiprocessing.active_children():
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # user and system time, which stand 14th and 15th in the line
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def table(record: dict[str, Any]) -> Iterator[str]:
    """Lines of text. A ratio is the median of the ratios to the first entry within each round."""
    baseline: list[float] = []
    yield f"{'':<40} {'images/s':>9} {'(min .. max)':>19} {'ratio':>7} {'a CPU-second':>13}"
    for name, rates in record["rates"].items():
        rate = rates["images_per_s"]
        baseline = baseline or rate
        ratio = median(own / first for own, first in zip(rate, baseline, strict=True))
        spread = f"({min(rate):,.0f} .. {max(rate):,.0f})"
        frugality = median(rates["images_per_cpu_s"])
        yield f"{name:<40} {median(rate):>9,.0f} {spread:>19}  x {ratio:>4.2f} {frugality:>13,.0f}"
    for name, reason in record["left_out"].items():
        yield f"{name:<40} left out: {reason}"
