"""The command's second start, for a run on the CPU: what is read when a process starts can only be set before it.

`python -m fastcifar.relaunch` prints the settings as words for `env`.
"""

import os
import sys
from pathlib import Path

from fastcifar.allocator import allocator_environment, has_glibc
from fastcifar.waiting import waiting_environment


def certainly_on_cpu(device: str) -> bool:
    """Whether a run with this `runtime.device` will use the CPU, as far as can be told without importing torch."""
    return device == "cpu" or (device == "auto" and not Path("/proc/driver/nvidia").exists())


def cpu_environment() -> dict[str, str]:
    """What is left to set of malloc and libgomp for a process that computes on the CPU; nothing without glibc."""
    return allocator_environment() | waiting_environment() if has_glibc() else {}


def relaunch_for_cpu() -> None:
    """Replace this process by itself with malloc and libgomp set for a CPU run, if anything is left to set.

    Only a process started as the `fastcifar` command is replaced, never a program that imports the package. The
    process keeps its id and its start time.
    """
    is_command = Path(sys.argv[0]).name in ("fastcifar", "__main__.py")
    wanted = cpu_environment()
    if not (is_command and wanted):
        return
    os.environ.update(wanted)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
    print(*(f"{name}={value}" for name, value in cpu_environment().items()))
