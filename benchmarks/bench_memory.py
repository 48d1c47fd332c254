"""Peak memory of a training process on a CPU: beside a DataLoader's, and as the data set grows to a million images."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from measure import Measure, checks_itself
from needs import need_dali
from record import Work

SCRIPT = Path(__file__).with_name("short_training.py")
ROUNDS = 3
KINDS = {"DataLoader, torchvision v2, 2 workers": "dataloader", "fastcifar resident": "resident"}
IMAGES = 50_000
SETS, SHORT_SETS = (10_000, 100_000, 1_000_000), (10_000, 20_000)
STORED_BYTES = 32 * 32 * 3


def bench_memory(measure: Measure, short: bool) -> None:
    measure(
        f"peak memory: {IMAGES:,} images, c1c2c3c40-speed, 32 pixels, batch 256",
        {name: peak_bytes(kind, IMAGES) for name, kind in KINDS.items()},
        baseline=next(iter(KINDS)),
        check=checks_itself,
        work=Work("MiB"),
        rounds=1 if short else ROUNDS,
    )


@pytest.mark.parametrize("kind", ["resident", "workers", "dali"])
def bench_memory_beyond_the_images(measure: Measure, kind: str, short: bool) -> None:
    """What a process takes beside the data set, which lies in memory once, decoded."""
    if kind == "dali":
        need_dali()
    sets = SHORT_SETS if short else SETS

    def beyond(count: int) -> Callable[[], int]:
        peak = peak_bytes(kind, count)
        return lambda: peak() - count * STORED_BYTES

    measure(
        f"peak memory by images, less the images: {kind}, batch 256",
        {f"{count}": beyond(count) for count in sets},
        baseline=f"{sets[0]}",
        check=checks_itself,
        work=Work("MiB"),
        axis="images in the data set",
        rounds=1 if short else ROUNDS,
    )


def peak_bytes(kind: str, count: int) -> Callable[[], int]:
    """Runs a training process, see `short_training.py`, which looks at its losses and holds all images at least."""

    def run() -> int:
        command = [sys.executable, str(SCRIPT), kind, str(count)]
        found = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert found > count * STORED_BYTES, f"{kind}: {found} bytes"
        return found

    return run
