"""glibc's malloc, kept from returning large blocks to the system after every training step.

By default each large activation is mapped afresh and unmapped again, so that every step pays for page faults. The
tunables are read when a process starts, which is why the command starts itself once more with them.
"""

import os
import sys
from pathlib import Path

TUNABLES = "glibc.malloc.mmap_threshold=4294967295:glibc.malloc.trim_threshold=4294967295:glibc.malloc.mmap_max=0"
OPT_OUT = "FASTCIFAR_ALLOCATOR"


def allocator_state() -> tuple[str, str]:
    """(setting, reason): "tuned" where malloc keeps its memory, else "default"."""
    if "glibc.malloc.mmap_max=0" in os.environ.get("GLIBC_TUNABLES", ""):
        return "tuned", "GLIBC_TUNABLES keeps freed memory in the process"
    if not _has_glibc():
        return "default", "the tunables are glibc's, and this C library is another one"
    if os.environ.get(OPT_OUT) == "default":
        return "default", f"{OPT_OUT}=default"
    return "default", "a CPU run of `fastcifar train` starts itself once more with GLIBC_TUNABLES set"


def certainly_on_cpu(device: str) -> bool:
    """Whether a run with this `runtime.device` will use the CPU, as far as can be told without importing torch."""
    return device == "cpu" or (device == "auto" and not Path("/proc/driver/nvidia").exists())


def relaunch_with_tuned_malloc() -> None:
    """Replace this process by itself with the tunables set, where that pays; else return.

    It pays under glibc for a run on the CPU, which the caller makes sure of. Only a process started as the `fastcifar`
    command is replaced, never a program that imports the package. The process keeps its id and its start time.
    """
    is_command = Path(sys.argv[0]).name in ("fastcifar", "__main__.py")
    tuned = allocator_state()[0] == "tuned"
    if tuned or not is_command or not _has_glibc() or os.environ.get(OPT_OUT) == "default":
        return
    others = os.environ.get("GLIBC_TUNABLES")
    os.environ["GLIBC_TUNABLES"] = f"{others}:{TUNABLES}" if others else TUNABLES
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _has_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (ValueError, OSError):
        return False
