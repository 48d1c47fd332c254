"""A run as Weights & Biases shows it; WANDB_MODE says whether it is sent, kept for `wandb sync`, or neither."""

import os
import secrets
from pathlib import Path
from typing import Any

from fastcifar.training.run_log import CONFIG_FILE

PROJECT = "fastcifar"
LONGEST_FINISH_S = 60.0
"""To send what is left at the end of a run; without a limit a lost network would hold up the next seed for good."""


class WandbWriter:
    """A run of the project "fastcifar" (or of WANDB_PROJECT), its files in the run folder, in `wandb/`.

    Its id is kept there too: a resumed run goes on as the same one. Epochs that the server has are not sent again.
    Offline nothing is known of a server, and `wandb sync` lets the last process of a run replace those before it, so
    that one records every epoch.
    """

    def __init__(self, folder: Path, configuration: dict[str, Any]) -> None:
        import wandb  # an extra

        # Both show what is missing in a run without it: a run of several seeds, whose folder has a configuration too.
        several = (folder.parent / CONFIG_FILE).exists()
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=f"{folder.parent.name}/{folder.name}" if several else folder.name,
            group=folder.parent.name if several else None,
            config=configuration,
            dir=folder,
            id=_run_id(folder / "wandb" / "run-id"),
            resume="allow",
            # The terminal is ours: no capture of what it shows, no lines but those that ask the user to log in.
            settings=wandb.Settings(
                console="off", silent=True, finish_timeout=LONGEST_FINISH_S, finish_timeout_raises=True
            ),
        )
        files = Path(self.run.dir).parent
        self.where = f"kept offline, to be sent with: wandb sync {files}" if self.run.offline else self.run.url or "off"

    def write_epoch(self, epoch: int, values: dict[str, float]) -> None:
        if epoch >= self.run.starting_step:
            self.run.log(values, step=epoch)

    def write_result(self, result: dict[str, Any]) -> None:
        self.run.summary["result"] = result

    def close(self, finished: bool) -> None:
        self.run.finish(exit_code=0 if finished else 1)


def _run_id(path: Path) -> str:
    """The id in a file; where there is none, a new one is put there."""
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{secrets.token_hex(4)}\n")
    return path.read_text().strip()
