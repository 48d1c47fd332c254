"""Options that commands which train share, and the settings that they stand for."""

from typing import Annotated, Any

import typer

DATA, LENGTH, SPEED, OUTPUT = "Data", "Training", "Hardware", "Output"


def option(flag: str, help: str, panel: str, **settings: Any) -> Any:
    """An option of a panel of `--help`; what it defaults to is the recipe's affair and not shown."""
    return typer.Option(flag, help=help, rich_help_panel=panel, show_default=False, **settings)


Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        "-r",
        help="speed (the default), demo, laptop, accuracy, assignment-98k, -151k, -162k, -170k, -671k, "
        "or the path of a .toml file.",
    ),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override any setting; repeatable.")
]
Dataset = Annotated[str | None, option("--dataset", "cifar10, or shapes10, which is built in.", DATA)]
DataDir = Annotated[str | None, option("--data-dir", "Folder or archive with CIFAR-10.", DATA)]
Offline = Annotated[bool | None, option("--offline", "Never use the network.", DATA)]
Loader = Annotated[str | None, option("--loader", "auto, resident, dali or workers.", DATA)]
Model = Annotated[str | None, option("--model", "Name of the network.", LENGTH)]
BatchSize = Annotated[int | None, option("--batch-size", "Images a step.", LENGTH)]
Device = Annotated[str | None, option("--device", "auto, cpu, cuda or cuda:N.", SPEED)]
Amp = Annotated[bool | None, option("--amp/--no-amp", "Mixed precision.", SPEED)]
Optimizer = Annotated[str | None, option("--optimizer", "SGD of auto, fused, torch or apex.", SPEED)]
Threads = Annotated[int | None, option("--threads", "CPU threads.", SPEED)]
Deterministic = Annotated[
    bool | None, option("--deterministic", "Algorithms that repeat to the bit, where torch has them.", SPEED)
]
Strict = Annotated[bool | None, option("--strict", "Exit 4 where a requested setting cannot be had.", SPEED)]
AsJson = Annotated[bool, option("--json", "Print one JSON object and nothing else on stdout.", OUTPUT)]
Quiet = Annotated[bool, option("--quiet", "Print only the result.", OUTPUT)]

SETTING_BEHIND = {
    "dataset": "data.dataset",
    "data_dir": "data.dir",
    "offline": "data.offline",
    "holdout": "data.holdout",
    "loader": "loader.kind",
    "model": "model.name",
    "epochs": "schedule.epochs",
    "batch_size": "training.batch_size",
    "lr": "optimizer.learning_rate",
    "seed": "training.seed",
    "runs": "training.runs",
    "target": "training.target",
    "device": "runtime.device",
    "amp": "runtime.amp",
    "compile": "runtime.compile",
    "graph": "runtime.graph",
    "optimizer": "optimizer.backend",
    "threads": "runtime.threads",
    "deterministic": "runtime.deterministic",
    "strict": "runtime.strict",
    "profile": "runtime.profile",
    "tensorboard": "log.tensorboard",
    "wandb": "log.wandb",
}
"""A command's parameter -> the setting that its flag overrides."""


def as_flags(**given: Any) -> dict[str, tuple[str, Any]]:
    """Parameters by name as `settings.resolve` takes them: setting -> (flag as the user typed it, value)."""
    return {
        SETTING_BEHIND[name]: (f"--{'no-' if value is False else ''}{name.replace('_', '-')}", value)
        for name, value in given.items()
    }
