"""`fastcifar train`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import fastcifar.cli.run_options as shared
from fastcifar.cli.run_options import DATA, LENGTH, OUTPUT, SPEED, as_flags, option
from fastcifar.errors import INTERRUPTED, TargetMissedError, UsageError


def train(
    recipe: shared.Recipe = None,
    settings: shared.Settings = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Go on with an interrupted run's folder.")
    ] = None,
    dataset: shared.Dataset = None,
    data_dir: shared.DataDir = None,
    offline: shared.Offline = None,
    holdout: Annotated[
        int | None, option("--holdout", "Evaluate on N training images set aside, not on the test set.", DATA)
    ] = None,
    loader: shared.Loader = None,
    model: shared.Model = None,
    epochs: Annotated[int | None, option("--epochs", "Epochs of the schedule.", LENGTH)] = None,
    batch_size: shared.BatchSize = None,
    lr: Annotated[float | None, option("--lr", "Peak learning rate.", LENGTH)] = None,
    seed: Annotated[int | None, option("--seed", "Seed of the first run.", LENGTH)] = None,
    runs: Annotated[int | None, option("--runs", "Train N seeds; report mean and spread.", LENGTH)] = None,
    target: Annotated[
        float | None, option("--target", "Stop at this accuracy in percent; exit 5 if it is missed.", LENGTH)
    ] = None,
    device: shared.Device = None,
    amp: shared.Amp = None,
    compile: Annotated[bool | None, option("--compile/--no-compile", "torch.compile.", SPEED)] = None,
    graph: Annotated[
        bool | None, option("--graph/--no-graph", "On a GPU, steps and evaluation as CUDA graphs.", SPEED)
    ] = None,
    optimizer: shared.Optimizer = None,
    threads: shared.Threads = None,
    deterministic: shared.Deterministic = None,
    strict: shared.Strict = None,
    output: Annotated[Path | None, option("--output", "Folder for run folders (./runs).", OUTPUT)] = None,
    tensorboard: Annotated[bool | None, option("--tensorboard", "Write the run for TensorBoard too.", OUTPUT)] = None,
    profile: Annotated[
        bool | None,
        option("--profile", "Trace ten steps into RUN/profile (Perfetto), and list what took the time.", OUTPUT),
    ] = None,
    wandb: Annotated[bool | None, option("--wandb", "Write it to Weights & Biases too.", OUTPUT)] = None,
    dry_run: Annotated[
        bool, option("--dry-run", "Print the configuration and where each value came from; train nothing.", OUTPUT)
    ] = False,
    as_json: shared.AsJson = False,
    quiet: shared.Quiet = False,
) -> None:
    """Train a network and leave a run folder with its weights, log and metrics."""
    flags = as_flags(
        dataset=dataset,
        data_dir=data_dir,
        offline=offline,
        holdout=holdout,
        loader=loader,
        model=model,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        runs=runs,
        target=target,
        device=device,
        amp=amp,
        compile=compile,
        graph=graph,
        optimizer=optimizer,
        threads=threads,
        deterministic=deterministic,
        strict=strict,
        profile=profile,
        tensorboard=tensorboard,
        wandb=wandb,
    )
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

    from fastcifar.atomic import check_place
    from fastcifar.cli.prepare import prepare_material
    from fastcifar.paths import runs_dir
    from fastcifar.process import started_at

    parent = output or runs_dir()
    check_place(parent, "a run folder")
    material, observer = prepare_material(resolved, quiet, as_json)

    from fastcifar.training.runs import train_runs
    from fastcifar.training.trainer import Interrupted

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
