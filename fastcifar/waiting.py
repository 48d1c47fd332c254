"""How long libgomp's threads, which torch computes with, keep their core busy while they wait for each other.

By default some milliseconds. Beside another busy program the thread that all wait for may be the one whose core they
keep, and a training step then takes several times as long; `benchmarks/README.md` has the figures. libgomp reads its
environment when it is loaded, see `relaunch.py`.
"""

import os

from fastcifar.allocator import has_glibc

SPIN_COUNT = "5000"
"""Turns of a waiting loop before a thread sleeps: the fewest that cost nothing to be seen where nothing else runs."""
SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
"""Either decides it."""


def waiting_state() -> tuple[str, str]:
    """(setting, reason)."""
    for name in SETTINGS:
        if value := os.environ.get(name):
            ours = (name, value) == (SETTINGS[0], SPIN_COUNT)
            reason = "threads that wait soon leave their core to others" if ours else f"{name} is set"
            return f"{name}={value}", reason
    if not has_glibc():
        return "default", "libgomp's setting is made where the C library is glibc"
    return "default", f"a CPU run of `fastcifar train` starts itself once more with {SETTINGS[0]}={SPIN_COUNT}"


def waiting_environment() -> dict[str, str]:
    """What a new process needs in its environment for that; nothing where the user or we have decided it."""
    return {} if any(os.environ.get(name) for name in SETTINGS) else {SETTINGS[0]: SPIN_COUNT}
