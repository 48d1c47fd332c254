"""A training as the command starts it: one seed or several, new or resumed."""

import statistics
import time
from pathlib import Path
from typing import Any

from fastcifar.runtime import prepare
from fastcifar.training.checkpoint import RESUME_FILE
from fastcifar.training.material import Material
from fastcifar.training.observer import Observer
from fastcifar.training.run_log import METRICS_FILE, RunLog, read_result
from fastcifar.training.single_run import train_single
from fastcifar.training.trainer import Interrupted


def train_runs(
    material: Material, observer: Observer, parent: Path, process_started: float, resume: Path | None = None
) -> dict[str, Any]:
    """Train `training.runs` seeds and return the result that `--json` prints.

    Args:
        parent: receives the run folders.
        process_started: wall-clock seconds since the epoch at which the process started, for the cold time.
        resume: folder of an interrupted run, or of several, to go on with. What is finished is not trained again.

    Returns:
        The result of the run; of several, their mean, spread and the list of them.
    """
    config = material.config
    prepare(material.runtime, config.runtime.deterministic)
    name = Path(material.resolved.recipe).stem
    if config.training.runs > 1:
        return _train_several(material, observer, parent / name, process_started, resume)
    if resume is None:
        seed = config.training.seed
        return train_single(material, observer, lambda: RunLog.create(parent, f"{name}-seed{seed}"), process_started)
    return _finish(material, observer, resume, process_started)


def _train_several(
    material: Material, observer: Observer, name: Path, process_started: float, resume: Path | None
) -> dict[str, Any]:
    training = material.config.training
    collection = RunLog(resume) if resume else None
    results = []
    for seed in range(training.seed, training.seed + training.runs):
        one = material.with_seed(seed)
        more_follow = seed + 1 < training.seed + training.runs
        # Only the first seed starts with the process; the others find it warm and have no cold time.
        started = None if results else process_started

        def make_run_log(seed: int = seed) -> RunLog:
            nonlocal collection
            if collection is None:
                collection = RunLog.create(name.parent, f"{name.name}-{training.runs}runs")
                collection.write_config(material.resolved.to_dict())
            return collection.subfolder(f"seed{seed}")

        try:
            folder = collection.folder / f"seed{seed}" if collection else None
            if folder and ((folder / METRICS_FILE).exists() or (folder / RESUME_FILE).exists()):
                results.append(_finish(one, observer, folder, started, more_follow))
            else:
                results.append(train_single(one, observer, make_run_log, started, more_follow=more_follow))
        except Interrupted as stop:
            raise Interrupted(collection.folder if collection else stop) from None
    assert collection is not None
    summary = summarize_runs(results) | {
        "total_time_s": None if resume else time.time() - process_started,
        "run_dir": str(collection.folder),
    }
    collection.write_metrics(summary)
    return summary


def _finish(
    material: Material, observer: Observer, folder: Path, process_started: float | None, more_follow: bool = False
) -> dict[str, Any]:
    """Go on with an interrupted run; of a finished one, the result as it was recorded."""
    if (folder / METRICS_FILE).exists():
        observer.message(f"{folder} is finished")
        return read_result(folder)
    return train_single(
        material, observer, lambda: RunLog(folder), process_started, resumed=True, more_follow=more_follow
    )


def summarize_runs(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Means and sample standard deviations over seeds; what they share is taken from the first."""
    shared = ("dataset", "evaluated_on", "recipe", "model", "parameters", "receptive_field", "device", "tta", "target")
    averaged = ("train_time_s", "warmup_time_s", "images_per_second", "epochs")
    accuracies = [result["val_acc"] for result in results]
    reached = [result["time_to_target_s"] for result in results if result["target_reached"]]
    return {
        "runs": len(results),
        "val_acc": statistics.mean(accuracies),
        "val_acc_std": statistics.stdev(accuracies),
        "val_acc_min": min(accuracies),
        "target_reached": len(reached) == len(results) if results[0]["target"] else None,
        "runs_that_reached_target": len(reached) if results[0]["target"] else None,
        "time_to_target_s": statistics.mean(reached) if reached else None,
        "time_to_target_s_std": statistics.stdev(reached) if len(reached) > 1 else None,
        **{key: statistics.mean(result[key] for result in results) for key in averaged},
        "cold_time_s": results[0]["cold_time_s"],
        **{key: results[0][key] for key in shared},
        "requested": results[0]["requested"],
        "used": results[0]["used"],
        "results": results,
    }
