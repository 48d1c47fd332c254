"""One network, one seed, one run folder, one result."""

import time
from collections.abc import Callable
from typing import Any

import torch

from fastcifar.environment import describe_environment
from fastcifar.errors import DeviceError
from fastcifar.evaluation.metrics import classification_summary
from fastcifar.loader.choose import build_loaders
from fastcifar.model.receptive_field import receptive_field
from fastcifar.model.registry import count_parameters
from fastcifar.training.captured import CudaGraphs
from fastcifar.training.checkpoint import load_resume_state
from fastcifar.training.material import Material
from fastcifar.training.network import build_network, memory_shortage_named
from fastcifar.training.observer import Observer, RunPlan
from fastcifar.training.run_log import RunLog
from fastcifar.training.trainer import Trainer
from fastcifar.training.writers import open_writers


def train_single(
    material: Material,
    observer: Observer,
    make_run_log: Callable[[], RunLog],
    process_started: float | None,
    resumed: bool = False,
    more_follow: bool = False,
) -> dict[str, Any]:
    """Train one seed and write its run folder.

    Args:
        make_run_log: called once everything that a setting can break has been built.
        process_started: wall-clock seconds since the epoch from which the cold time counts; None: no cold start.
        resumed: the folder holds an interrupted run, which goes on.
        more_follow: Ctrl-C in the last epoch ends the run as interrupted, so that the next seed does not start.

    Returns:
        The result that `--json` prints.
    """
    config, runtime = material.config, material.runtime
    with memory_shortage_named():
        model = build_network(material)
        field = receptive_field(model)
        model.to(runtime.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        kind = material.loader_choice.kind
        train_loader, eval_loader = build_loaders(kind, config, runtime, material.dataset, material.statistics)
        trainer = Trainer(config, runtime, model, train_loader, eval_loader, observer, _weights_metadata(material))
        used, warmup_time_s = _compile(trainer, material, observer)
    run_log, past = make_run_log(), []
    if resumed:
        trainer.load_resume_state(load_resume_state(run_log.folder), str(run_log.folder))
        past = run_log.keep_epochs(trainer.progress.epochs_done)
    else:
        run_log.write_config(material.resolved.to_dict())
    with memory_shortage_named():
        graph, capture_time_s = _capture(trainer, material, observer)
    used, warmup_time_s = used | {"graph": graph}, warmup_time_s + capture_time_s
    run_log.append_environment(describe_environment(runtime.device))
    with open_writers(material.resolved, run_log.folder, past, observer) as writers:
        run_log.followers.append(writers.write_epoch)
        observer.run_started(
            RunPlan(
                title=f"{config.model.name} on {material.dataset.title}, seed {config.training.seed}",
                epochs=config.schedule.epochs,
                first_epoch=trainer.progress.epochs_done + 1,
                steps_per_epoch=len(train_loader),
                evaluated_on=material.evaluated_on,
            )
        )
        try:
            with memory_shortage_named():
                progress = trainer.fit(run_log, more_follow)
                metrics = classification_summary(*trainer.predictions(), material.dataset.classes)
        finally:
            observer.run_ended()
        result = {
            "val_acc": metrics["accuracy"],
            "target": config.training.target or None,
            "target_reached": trainer.target_reached if config.training.target else None,
            "time_to_target_s": progress.time_to_target_s,
            "train_time_s": progress.train_time_s,
            "warmup_time_s": warmup_time_s,
            # A run that was resumed has no single process to count from.
            "cold_time_s": None if resumed or process_started is None else time.time() - process_started,
            "images_per_second": progress.examples / progress.step_time_s,
            "epochs": progress.epochs_done,
            "parameters": count_parameters(model),
            "receptive_field": field,
            "device": used["device"],
            "model": config.model.name,
            "dataset": material.dataset.title,
            "evaluated_on": material.evaluated_on,
            "tta": False,
            "recipe": material.resolved.recipe,
            "seed": config.training.seed,
            "best": {
                "val_acc": progress.best_accuracy,
                "epoch": progress.best_epoch,
                "chosen_on": material.evaluated_on,
            },
            "requested": runtime.requested() | {"loader": config.loader.kind},
            "used": used,
            "run_dir": str(run_log.folder),
        }
        run_log.write_metrics(result | {"evaluation": metrics})
        writers.write_result(result)
    return result


def _compile(trainer: Trainer, material: Material, observer: Observer) -> tuple[dict[str, str], float]:
    """Compile the model where asked, outside the training clock; without it where the compiler fails."""
    used = material.runtime.used() | {"loader": material.loader_choice.kind}
    if not material.runtime.compile:
        return used, 0.0
    trainer.model.compile(dynamic=False)
    try:
        return used, trainer.warm_up()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        # Inductor and the compilers below it fail in many ways; training goes on without them.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        if material.config.runtime.strict:
            raise DeviceError(f"torch.compile failed: {reason}", "drop --strict or --compile") from error
        observer.warning(f"compile on was asked for, off is used: torch.compile failed: {reason}")
        trainer.model._compiled_call_impl = None
        return used | {"compile": "off"}, 0.0


def _capture(trainer: Trainer, material: Material, observer: Observer) -> tuple[str, float]:
    """Capture steps and evaluation where chosen, outside the training clock; go on without where that fails."""
    if not material.runtime.graph:
        return "off", 0.0
    try:
        return "on", trainer.capture(CudaGraphs())
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        # Whatever a kernel does that no graph can hold comes as an error of its own kind.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        if material.config.runtime.strict:
            raise DeviceError(f"the step cannot be captured: {reason}", "drop --strict, or add --no-graph") from error
        observer.warning(f"graph on was chosen, off is used: the step cannot be captured: {reason}")
        return "off", 0.0


def _weights_metadata(material: Material) -> dict[str, Any]:
    return {
        "model": material.config.model.name,
        "dataset": material.dataset.name,
        "classes": list(material.dataset.classes),
        "mean": list(material.statistics.mean),
        "std": list(material.statistics.std),
    }
