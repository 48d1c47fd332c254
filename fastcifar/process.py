"""When this process started, which is before Python did."""

import os
import time
from pathlib import Path


def started_at() -> float:
    """Wall-clock time of the process's start, in seconds since the epoch.

    Linux keeps it across exec, in clock ticks since boot (proc(5), field 22 of stat); elsewhere the time of the call.
    """
    try:
        after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        since_boot = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
        return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)
    except (OSError, ValueError, IndexError, AttributeError):
        return time.time()
