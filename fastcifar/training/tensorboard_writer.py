"""A run as TensorBoard shows it: `tensorboard --logdir runs`."""

import json
from pathlib import Path
from typing import Any

from fastcifar.training.run_log import CONFIG_FILE


class TensorBoardWriter:
    """Event files in the run folder, in `tensorboard/`.

    Whatever an earlier process of the run wrote there is withdrawn, so that its epochs can be written again: none is
    missing then and none counts twice, wherever that process stopped.
    """

    def __init__(self, folder: Path, configuration: dict[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter  # tensorboard is an extra

        self.where = f"tensorboard --logdir {folder}"
        self.started = (folder / CONFIG_FILE).stat().st_mtime
        self.events = SummaryWriter(str(folder / "tensorboard"), purge_step=0)
        self._write_text("configuration", configuration)

    def write_epoch(self, epoch: int, values: dict[str, float]) -> None:
        # With this wall time TensorBoard's "relative" axis is training time, a break before --resume left out.
        time = self.started + values["train_time_s"]
        for tag, value in values.items():
            self.events.add_scalar(tag, value, epoch, walltime=time)
        self.events.flush()

    def write_result(self, result: dict[str, Any]) -> None:
        self._write_text("result", result)

    def close(self, finished: bool) -> None:
        self.events.close()

    def _write_text(self, tag: str, content: dict[str, Any]) -> None:
        self.events.add_text(tag, f"```json\n{json.dumps(content, indent=2)}\n```", 0)
