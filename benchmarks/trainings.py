"""Whole trainings as a user starts them: `fastcifar train` in a process of its own."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TARGET_MISSED = 5


def train(*flags: str) -> dict[str, Any]:
    """What `fastcifar train --json` with these flags says of a run, and under "history" a dictionary an epoch.

    The run's folder is not kept.

    Raises:
        RuntimeError: it ended otherwise than by finishing, or by missing its target.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fastcifar", "train", "--quiet", "--json", "--output", folder, *flags]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode not in (0, TARGET_MISSED):
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        result = json.loads(done.stdout)
        epochs = (Path(result["run_dir"]) / "epochs.jsonl").read_text()
    return result | {"history": [json.loads(line) for line in epochs.splitlines()]}
