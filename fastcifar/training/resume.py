"""The configuration of a run that goes on."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastcifar.errors import UsageError
from fastcifar.settings import ResolvedConfig, apply_overrides
from fastcifar.training.run_log import read_resolved_config

CHANGEABLE = ("data.dir", "data.offline", "loader.", "optimizer.backend", "training.log_every", "runtime.", "log.")
"""What may differ in a resumed run: where, how fast and how watched it runs, never what is trained on what."""


def resolve_resumed(folder: Path, flags: Mapping[str, tuple[str, Any]], settings: Iterable[str]) -> ResolvedConfig:
    """Configuration of the run in `folder`, with the overrides that do not change its outcome.

    Raises:
        DataError: the folder is no run.
        UsageError: an override would make it another run.
    """
    kept = read_resolved_config(folder)
    resumed = apply_overrides(kept, flags, settings)
    before, after = kept.config.to_dict(), resumed.config.to_dict()
    for key in resumed.sources:
        section, name = key.split(".")
        if before[section][name] != after[section][name] and not key.startswith(CHANGEABLE):
            raise UsageError(
                f"--resume: {key} cannot be changed in a run under way ({resumed.sources[key]})",
                "leave it out, or start a new run",
            )
    return resumed
