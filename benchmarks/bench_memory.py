"""Peak memory of a training process on a CPU: images in memory beside a DataLoader with two workers."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from measure import Measure, checks_itself
from record import Work

SCRIPT = Path(__file__).with_name("training_memory.py")
ROUNDS = 3
KINDS = {"DataLoader, torchvision v2, 2 workers": "dataloader", "fastcifar resident": "resident"}
STORED_BYTES = 50_000 * 32 * 32 * 3


def bench_memory(measure: Measure, short: bool) -> None:
    measure(
        "peak memory: 50,000 images, c1c2c3c40-speed, 32 pixels, batch 256",
        {name: peak_bytes(kind) for name, kind in KINDS.items()},
        baseline=next(iter(KINDS)),
        check=checks_itself,
        work=Work("MiB"),
        rounds=1 if short else ROUNDS,
    )


def peak_bytes(kind: str) -> Callable[[], int]:
    """Runs a training process, see `training_memory.py`, which looks at its losses and holds all images at least."""

    def run() -> int:
        command = [sys.executable, str(SCRIPT), kind]
        found = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert found > STORED_BYTES, f"{kind}: {found} bytes"
        return found

    return run
