"""From a resolved configuration to trained run folders and their result: one seed or several."""

import functools
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastcifar.config import Config, ResolvedConfig
from fastcifar.dataset.image_set import Dataset, split_holdout
from fastcifar.dataset.obtain import obtain_dataset
from fastcifar.dataset.statistics import ChannelStatistics, channel_statistics
from fastcifar.errors import DeviceError
from fastcifar.evaluation.metrics import summarize
from fastcifar.loader.choose import LoaderChoice, build_loaders, choose_loader
from fastcifar.model.layers import Stem
from fastcifar.model.receptive_field import receptive_field
from fastcifar.model.registry import build_model, count_parameters
from fastcifar.paths import named_data_dir
from fastcifar.runtime import Runtime, prepare
from fastcifar.training.checkpoint import load_resume_state
from fastcifar.training.observer import Observer, RunPlan
from fastcifar.training.run_log import RunLog, describe_environment
from fastcifar.training.trainer import Trainer

STEM_IMAGES = 1000  # enough for a 27 x 27 covariance: each image gives 900 patches


@dataclass(frozen=True)
class Material:
    """What every seed of a training shares."""

    resolved: ResolvedConfig
    runtime: Runtime
    dataset: Dataset
    statistics: ChannelStatistics
    loader_choice: LoaderChoice

    @property
    def config(self) -> Config:
        return self.resolved.config


def load_material(resolved: ResolvedConfig, runtime: Runtime, observer: Observer, progress: bool = False) -> Material:
    """Read the data (downloading it where it may), set the hold-out aside, choose the loader."""
    config = resolved.config
    dataset = obtain_dataset(
        config.data.dataset, named_data_dir(config.data.dir), config.data.offline, observer.message, progress
    )
    if config.data.holdout:
        dataset = split_holdout(dataset, config.data.holdout)
    return Material(
        resolved, runtime, dataset, channel_statistics(dataset.train.images), choose_loader(config.loader, dataset)
    )


def train_runs(
    material: Material, observer: Observer, parent: Path, process_started: float, resume: Path | None = None
) -> dict[str, Any]:
    """Train `training.runs` seeds and return the result that `--json` prints.

    Args:
        parent: receives the run folders.
        process_started: wall-clock seconds since the epoch at which the process started, for the cold time.
        resume: folder of an interrupted run to go on with.

    Returns:
        The result of the run; of several, their mean, spread and the list of them.
    """
    config = material.config
    prepare(material.runtime, config.runtime.deterministic)
    stem, first_seed = Path(material.resolved.recipe).stem, config.training.seed
    if resume is not None:
        return _train_one(material, observer, lambda: RunLog(resume), process_started, resumed=True)
    if config.training.runs == 1:
        return _train_one(
            material, observer, lambda: RunLog.create(parent, f"{stem}-seed{first_seed}"), process_started
        )
    collection = functools.cache(lambda: RunLog.create(parent, f"{stem}-{config.training.runs}runs"))
    results = []
    for seed in range(first_seed, first_seed + config.training.runs):
        one = replace(config, training=replace(config.training, seed=seed, runs=1))
        one_material = replace(material, resolved=replace(material.resolved, config=one))
        one_log = functools.partial(lambda seed: collection().subfolder(f"seed{seed}"), seed)
        results.append(_train_one(one_material, observer, one_log, process_started))
    summary = summarize_runs(results) | {"run_dir": str(collection().folder)}
    collection().write_metrics(summary)
    return summary


def summarize_runs(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and sample standard deviation over seeds; what they share is taken from the first."""
    shared = ("dataset", "evaluated_on", "recipe", "model", "epochs", "parameters", "receptive_field", "device")
    accuracies = [result["val_acc"] for result in results]
    reached = [result["time_to_target_s"] for result in results if result["target_reached"]]
    return {
        "runs": len(results),
        "val_acc": statistics.mean(accuracies),
        "val_acc_std": statistics.stdev(accuracies),
        "val_acc_min": min(accuracies),
        "target": results[0]["target"],
        "target_reached": len(reached) == len(results) if results[0]["target"] else None,
        "runs_that_reached_target": len(reached),
        "time_to_target_s": statistics.mean(reached) if reached else None,
        "time_to_target_s_std": statistics.stdev(reached) if len(reached) > 1 else None,
        "train_time_s": statistics.mean(result["train_time_s"] for result in results),
        "images_per_second": statistics.mean(result["images_per_second"] for result in results),
        "cold_time_s": results[-1]["cold_time_s"],
        **{key: results[0][key] for key in shared},
        "requested": results[0]["requested"],
        "used": results[0]["used"],
        "results": results,
    }


def _train_one(
    material: Material,
    observer: Observer,
    make_run_log: Callable[[], RunLog],
    process_started: float,
    resumed: bool = False,
) -> dict[str, Any]:
    config, runtime = material.config, material.runtime
    torch.manual_seed(config.training.seed)
    model = build_model(config.model.name, len(material.dataset.classes))
    field = receptive_field(model)
    if config.model.whiten_stem:
        _whiten_stem(model, material)
    model.to(runtime.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    train_loader, eval_loader = build_loaders(
        material.loader_choice.kind, config, runtime, material.dataset, material.statistics
    )
    run_log = make_run_log()  # not before everything that a setting can break
    trainer = Trainer(config, runtime, model, train_loader, eval_loader, run_log, observer, _weights_metadata(material))
    used, warmup_time_s = _compile(trainer, material, observer)
    if resumed:
        trainer.load_resume_state(load_resume_state(run_log.folder), str(run_log.folder))
        run_log.keep_epochs(trainer.progress.epochs_done)
    else:
        run_log.write_start(material.resolved.to_dict() | {"config": config.to_dict()}, describe_environment())
    observer.run_started(
        RunPlan(
            title=f"{config.model.name} on {material.dataset.title}, seed {config.training.seed}",
            epochs=config.schedule.epochs,
            first_epoch=trainer.progress.epochs_done + 1,
            steps_per_epoch=len(train_loader),
            evaluated_on=_evaluated_on(config),
        )
    )
    try:
        progress = trainer.fit()
    finally:
        observer.run_ended()
    assert trainer.last_predictions is not None
    metrics = summarize(*trainer.last_predictions, material.dataset.classes)
    result = {
        "val_acc": metrics["accuracy"],
        "target": config.training.target or None,
        "target_reached": trainer.target_reached if config.training.target else None,
        "time_to_target_s": progress.time_to_target_s,
        "train_time_s": progress.train_time_s,
        "warmup_time_s": warmup_time_s,
        "cold_time_s": time.time() - process_started,
        "images_per_second": progress.examples / progress.step_time_s,
        "epochs": progress.epochs_done,
        "parameters": count_parameters(model),
        "receptive_field": field,
        "device": used["device"],
        "model": config.model.name,
        "dataset": material.dataset.title,
        "evaluated_on": _evaluated_on(config),
        "tta": False,
        "recipe": material.resolved.recipe,
        "seed": config.training.seed,
        "best": {
            "val_acc": progress.best_accuracy,
            "epoch": progress.best_epoch,
            "chosen_on": _evaluated_on(config),
        },
        "requested": runtime.requested() | {"loader": config.loader.kind},
        "used": used,
        "run_dir": str(run_log.folder),
    }
    run_log.write_metrics(_without_nan(result | {"evaluation": metrics}))
    return result


def _compile(trainer: Trainer, material: Material, observer: Observer) -> tuple[dict[str, str], float]:
    """Compile the model where asked, outside the training clock; without it where the compiler fails."""
    used = material.runtime.used() | {"loader": material.loader_choice.kind}
    if not material.runtime.compile:
        return used, 0.0
    trainer.model.compile(dynamic=False)
    try:
        return used, trainer.warm_up()
    except Exception as error:
        # Inductor and the compilers below it fail in many ways; training goes on without them.
        reason = str(error).strip().splitlines()[0][:200]
        if material.config.runtime.strict:
            raise DeviceError(f"torch.compile failed: {reason}", "drop --strict or --compile") from error
        observer.warning(f"compile on was asked for, off is used: torch.compile failed: {reason}")
        trainer.model._compiled_call_impl = None
        trainer.step.optimizer.zero_grad(set_to_none=True)
        return used | {"compile": "off"}, 0.0


def _whiten_stem(model: nn.Module, material: Material) -> None:
    stem = getattr(model, "stem", None)
    if not isinstance(stem, Stem):
        return
    # Evenly spaced: class folders are read class by class, and the first thousand images are all aeroplanes there.
    spaced = material.dataset.train.images[:: max(1, len(material.dataset.train) // STEM_IMAGES)][:STEM_IMAGES]
    images = torch.from_numpy(spaced).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(material.statistics.mean), torch.tensor(material.statistics.std)
    stem.whiten((images - mean[:, None, None]) / std[:, None, None])


def _weights_metadata(material: Material) -> dict[str, Any]:
    return {
        "model": material.config.model.name,
        "dataset": material.dataset.name,
        "classes": list(material.dataset.classes),
        "mean": list(material.statistics.mean),
        "std": list(material.statistics.std),
    }


def _evaluated_on(config: Config) -> str:
    return "holdout" if config.data.holdout else "test"


def _without_nan(result: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN; an accuracy that was never measured is null."""
    return json.loads(json.dumps(result), parse_constant=lambda name: None if name == "NaN" else math.inf)
