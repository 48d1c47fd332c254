"""A profile of a few training steps: a trace for Perfetto and a table of what took the time."""

from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity

from fastcifar.atomic import written_whole
from fastcifar.runtime import synchronize

SKIPPED, PROFILED = 12, 10
"""Steps before the profile, in which caches fill and kernels are chosen, and in it."""
ROWS = 15
TRACE_FILE, TABLE_FILE = "trace.json.gz", "top.txt"


class StepProfile:
    """Records some steps of one epoch, the making of their batches included.

    Args:
        folder: receives trace.json.gz (open it on ui.perfetto.dev) and top.txt; made when there is something to write.
        device: what the steps run on; a GPU's kernels are recorded besides the CPU's calls.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.folder = folder
        self._device, self._on_cuda = device, device.type == "cuda"
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * self._on_cuda
        self._profile = torch.profiler.profile(activities=activities, acc_events=True)
        self._steps = 0

    def step_done(self) -> bool:
        """Count a step; True where it was the last of the profile, whose files are then written.

        Raises:
            UsageError: the place cannot be written to.
        """
        self._steps += 1
        if self._steps in (SKIPPED, SKIPPED + PROFILED):
            synchronize(self._device)  # which may be steps behind
        if self._steps == SKIPPED:
            self._profile.start()
        elif self._steps == SKIPPED + PROFILED:
            self._profile.stop()
            self._write()
            return True
        return False

    def abandon(self) -> None:
        """Stop recording; the run ended inside the profile."""
        if SKIPPED <= self._steps < SKIPPED + PROFILED:
            self._profile.stop()

    def _write(self) -> None:
        with written_whole(self.folder / TABLE_FILE) as partial:
            partial.write_text("\n".join(self.table()) + "\n")
        with written_whole(self.folder / TRACE_FILE) as partial:
            named = partial.with_name(f"{partial.name}.json.gz")  # the ending decides whether it is compressed
            self._profile.export_chrome_trace(str(named))
            named.rename(partial)

    def table(self) -> list[str]:
        """The operators (on a GPU, the kernels) that took most time themselves, milliseconds a step."""
        totals = [(self._own_us(row), row) for row in self._profile.key_averages()]
        whole = sum(own for own, _ in totals)
        busiest = sorted(totals, key=lambda pair: -pair[0])[:ROWS]
        where = "GPU" if self._on_cuda else "CPU"
        lines = [
            f"{where} time of {PROFILED} steps after the first {SKIPPED}: {whole / PROFILED / 1e3:.2f} ms a step, "
            "all threads that record",
            f"{'ms a step':>9} {'share':>7} {'calls a step':>13}  operator",
        ]
        for own, row in busiest:
            calls = row.count / PROFILED
            lines.append(f"{own / PROFILED / 1e3:>9.3f} {own / whole:>7.1%} {calls:>13.1f}  {row.key[:80]}")
        return lines

    def _own_us(self, row: Any) -> float:
        return row.self_device_time_total if self._on_cuda else row.self_cpu_time_total
