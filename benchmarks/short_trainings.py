"""`short_training.py` in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

from fastcifar.allocator import TUNABLES
from fastcifar.waiting import SPIN_COUNT

SCRIPT = Path(__file__).with_name("short_training.py")
STORED_BYTES = 32 * 32 * 3
"""Of an image."""
PEER, RESIDENT = "DataLoader, torchvision v2, 2 workers", "fastcifar resident"
KINDS = {PEER: "dataloader", RESIDENT: "resident"}


def short_training(kind: str, count: int) -> dict[str, float]:
    """Peak memory in `bytes`, the images included, and `seconds` to the last step.

    Ours run with malloc and libgomp as `fastcifar train` sets them, the peer with their defaults.
    """
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GLIBC_TUNABLES", "GOMP_SPINCOUNT")
    }
    if kind != KINDS[PEER]:
        environment |= {"GLIBC_TUNABLES": TUNABLES, "GOMP_SPINCOUNT": SPIN_COUNT}
    command = [sys.executable, str(SCRIPT), kind, str(count)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
    assert found["bytes"] > count * STORED_BYTES, f"{kind}: {found}"
    return found
