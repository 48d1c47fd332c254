"""`fastcifar train`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fastcifar.errors import INTERRUPTED, TargetMissedError, UsageError

DATA, LENGTH, SPEED, OUTPUT = "Data", "Training", "Hardware", "Output"


def _option(flag: str, help: str, panel: str, **settings: Any) -> Any:
    return typer.Option(flag, help=help, rich_help_panel=panel, show_default=False, **settings)


def train(
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-r",
            help="speed (the default), demo, laptop, accuracy, assignment-98k, -151k, -162k, -170k, -671k, "
            "or the path of a .toml file.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override any setting; repeatable.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Go on with an interrupted run's folder.")
    ] = None,
    dataset: Annotated[str | None, _option("--dataset", "cifar10, or shapes10, which is built in.", DATA)] = None,
    data_dir: Annotated[str | None, _option("--data-dir", "Folder or archive with CIFAR-10.", DATA)] = None,
    offline: Annotated[bool | None, _option("--offline", "Never use the network.", DATA)] = None,
    holdout: Annotated[
        int | None, _option("--holdout", "Evaluate on N training images set aside, not on the test set.", DATA)
    ] = None,
    loader: Annotated[str | None, _option("--loader", "auto, resident, dali or workers.", DATA)] = None,
    model: Annotated[str | None, _option("--model", "Name of the network.", LENGTH)] = None,
    epochs: Annotated[int | None, _option("--epochs", "Epochs of the schedule.", LENGTH)] = None,
    batch_size: Annotated[int | None, _option("--batch-size", "Images a step.", LENGTH)] = None,
    lr: Annotated[float | None, _option("--lr", "Peak learning rate.", LENGTH)] = None,
    seed: Annotated[int | None, _option("--seed", "Seed of the first run.", LENGTH)] = None,
    runs: Annotated[int | None, _option("--runs", "Train N seeds; report mean and spread.", LENGTH)] = None,
    target: Annotated[
        float | None, _option("--target", "Stop at this accuracy in percent; exit 5 if it is missed.", LENGTH)
    ] = None,
    device: Annotated[str | None, _option("--device", "auto, cpu, cuda or cuda:N.", SPEED)] = None,
    amp: Annotated[bool | None, _option("--amp/--no-amp", "Mixed precision.", SPEED)] = None,
    compile: Annotated[bool | None, _option("--compile/--no-compile", "torch.compile.", SPEED)] = None,
    optimizer: Annotated[str | None, _option("--optimizer", "SGD of auto, fused, torch or apex.", SPEED)] = None,
    threads: Annotated[int | None, _option("--threads", "CPU threads.", SPEED)] = None,
    deterministic: Annotated[
        bool | None, _option("--deterministic", "Algorithms that repeat to the bit, where torch has them.", SPEED)
    ] = None,
    strict: Annotated[
        bool | None, _option("--strict", "Exit 4 where a requested setting cannot be had.", SPEED)
    ] = None,
    output: Annotated[Path | None, _option("--output", "Folder for run folders (./runs).", OUTPUT)] = None,
    dry_run: Annotated[
        bool, _option("--dry-run", "Print the configuration and where each value came from; train nothing.", OUTPUT)
    ] = False,
    as_json: Annotated[bool, _option("--json", "Print one JSON object and nothing else on stdout.", OUTPUT)] = False,
    quiet: Annotated[bool, _option("--quiet", "Print only the result.", OUTPUT)] = False,
) -> None:
    """Train a network and leave a run folder with its weights, log and metrics."""
    flags = {
        "data.dataset": ("--dataset", dataset),
        "data.dir": ("--data-dir", data_dir),
        "data.offline": ("--offline", offline),
        "data.holdout": ("--holdout", holdout),
        "loader.kind": ("--loader", loader),
        "model.name": ("--model", model),
        "schedule.epochs": ("--epochs", epochs),
        "training.batch_size": ("--batch-size", batch_size),
        "optimizer.learning_rate": ("--lr", lr),
        "training.seed": ("--seed", seed),
        "training.runs": ("--runs", runs),
        "training.target": ("--target", target),
        "runtime.device": ("--device", device),
        "runtime.amp": ("--amp" if amp else "--no-amp", amp),
        "runtime.compile": ("--compile" if compile else "--no-compile", compile),
        "optimizer.backend": ("--optimizer", optimizer),
        "runtime.threads": ("--threads", threads),
        "runtime.deterministic": ("--deterministic", deterministic),
        "runtime.strict": ("--strict", strict),
    }
    from fastcifar.settings import DEFAULT_RECIPE, resolve

    if resume is None:
        resolved = resolve(recipe or DEFAULT_RECIPE, flags, settings or ())
    elif recipe is not None:
        raise UsageError("--resume goes on with the run's own recipe", "leave --recipe out, or start a new run")
    else:
        from fastcifar.training.resume import resolve_resumed

        resolved = resolve_resumed(resume, flags, settings or ())
    if dry_run:
        _print_configuration(resolved.to_dict(), as_json)
        return

    from fastcifar.allocator import certainly_on_cpu, relaunch_with_tuned_malloc

    if certainly_on_cpu(resolved.config.runtime.device):
        relaunch_with_tuned_malloc()

    from fastcifar.cli.progress import make_observer
    from fastcifar.paths import runs_dir
    from fastcifar.process import started_at
    from fastcifar.runtime import choose_runtime, disappointments
    from fastcifar.training.material import check_before_loading, load_material
    from fastcifar.training.optimizer_choice import with_optimizer
    from fastcifar.training.runs import train_runs
    from fastcifar.training.trainer import Interrupted

    observer = make_observer(quiet, as_json)
    runtime = with_optimizer(choose_runtime(resolved.config.runtime), resolved.config.optimizer)
    if runtime.device.type == "cpu":
        relaunch_with_tuned_malloc()
    parent = output or runs_dir()
    check_before_loading(resolved.config, parent)
    for line in disappointments(runtime, resolved):
        observer.warning(line)
    for name, choice in runtime.choices.items():
        observer.message(f"{name}: {choice.used} ({choice.reason})")
    material = load_material(resolved, runtime, observer, progress=sys.stderr.isatty() and not quiet)
    observer.message(f"data: {material.dataset.title}, {material.dataset.source}")
    observer.message(f"loader: {material.loader_choice.kind} ({material.loader_choice.reason})")
    try:
        result = train_runs(material, observer, parent, started_at(), resume)
    except Interrupted as stop:
        print(f"fastcifar: interrupted - go on with: fastcifar train --resume {stop}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    _print_result(result, as_json)
    if result["target_reached"] is False:
        missed = f"{result['val_acc']:.2f} % is below the target of {result['target']:g} %"
        if "runs" in result:
            missed = f"{result['runs_that_reached_target']} of {result['runs']} runs reached {result['target']:g} %"
        raise TargetMissedError(missed, "train longer with --epochs, or lower --target")


def _print_configuration(content: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(content, indent=2))
        return
    for section, values in content["config"].items():
        typer.echo(f"[{section}]")
        for key, value in values.items():
            typer.echo(f"{key:<16} = {value!s:<24} # {content['sources'][f'{section}.{key}']}")


def _print_result(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result, indent=2))
        return
    spread = f" +- {result['val_acc_std']:.2f} ({result['runs']} runs)" if "runs" in result else ""
    typer.echo(
        f"{result['val_acc']:.2f} %{spread} on the {result['dataset']} {result['evaluated_on']} images "
        f"after {result['epochs']:g} epochs, last epoch, no TTA"
    )
    cold = f" ({result['cold_time_s']:.1f} s since the process started)" if result["cold_time_s"] else ""
    typer.echo(
        f"{result['train_time_s']:.1f} s of training{cold}, {result['images_per_second']:,.0f} images/s "
        f"on {result['device']}"
    )
    typer.echo(f"{result['parameters']:,} parameters, receptive field {result['receptive_field']} pixels")
    if result["target_reached"]:
        typer.echo(f"{result['target']:g} % reached after {result['time_to_target_s']:.1f} s")
    typer.echo(f"run folder: {result['run_dir']}")
