"""glibc's malloc, kept from returning large blocks to the system after every training step.

By default each large activation is mapped afresh and unmapped again, so that every step pays for page faults. The
tunables are read when a process starts, see `relaunch.py`.
"""

import os

TUNABLES = "glibc.malloc.mmap_threshold=4294967295:glibc.malloc.trim_threshold=4294967295:glibc.malloc.mmap_max=0"
OPT_OUT = "FASTCIFAR_ALLOCATOR"


def allocator_state() -> tuple[str, str]:
    """(setting, reason): "tuned" where malloc keeps its memory, else "default"."""
    if "glibc.malloc.mmap_max=0" in os.environ.get("GLIBC_TUNABLES", ""):
        return "tuned", "GLIBC_TUNABLES keeps freed memory in the process"
    if not has_glibc():
        return "default", "the tunables are glibc's, and this C library is another one"
    if os.environ.get(OPT_OUT) == "default":
        return "default", f"{OPT_OUT}=default"
    return "default", "a CPU run of `fastcifar train` starts itself once more with GLIBC_TUNABLES set"


def allocator_environment() -> dict[str, str]:
    """What a new process needs in its environment to have malloc tuned; nothing where it is, or must not be."""
    if allocator_state()[0] == "tuned" or os.environ.get(OPT_OUT) == "default":
        return {}
    others = os.environ.get("GLIBC_TUNABLES")
    return {"GLIBC_TUNABLES": f"{others}:{TUNABLES}" if others else TUNABLES}


def has_glibc() -> bool:
    """Whether the C library is glibc."""
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (ValueError, OSError):
        return False
