"""The weights of a run folder, measured again."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastcifar.config import Config
from fastcifar.dataset.image_set import Dataset, split_holdout
from fastcifar.dataset.load import load_dataset
from fastcifar.errors import DataError
from fastcifar.evaluation.evaluate import predict_logits
from fastcifar.evaluation.metrics import classification_summary
from fastcifar.loader.choose import evaluation_loader
from fastcifar.paths import named_data_dir
from fastcifar.runtime import Runtime, choose_runtime, prepare
from fastcifar.training.run_log import read_resolved_config
from fastcifar.training.trained import TrainedWeights, read_trained


@dataclass(frozen=True)
class Reevaluation:
    """A run's weights on the images that they were evaluated on.

    Attributes:
        data: its test set is what was evaluated: the hold-out where the run had one.
        evaluated_on: "test" or "holdout".
        logits: float32 [N, classes] on the CPU, in the order of data.test.
        labels: int64 [N] on the CPU.
    """

    config: Config
    trained: TrainedWeights
    data: Dataset
    evaluated_on: str
    runtime: Runtime
    logits: Tensor
    labels: Tensor


def evaluate_again(
    folder: Path,
    best: bool = False,
    tta: bool = False,
    dataset: str | None = None,
    data_dir: str | None = None,
    device: str = "auto",
) -> Reevaluation:
    """Run a run's last (or best) weights over what they were evaluated on, in the precision of the training.

    Args:
        dataset, data_dir: override the run's; the normalisation stays the run's own.

    Raises:
        DataError: no run, damaged weights, weights of another model, or data with other classes.
    """
    config = read_resolved_config(folder).config
    trained = read_trained(folder, best)
    name = dataset or config.data.dataset
    same_data = name == config.data.dataset
    data = load_dataset(name, data_dir or (named_data_dir(config.data.dir) if same_data else None), config.data.offline)
    if data.classes != trained.classes:
        raise DataError(
            f"{data.source}: its classes are not those that {folder} was trained on",
            f"evaluate on {trained.dataset}",
        )
    held_out = bool(config.data.holdout) and same_data
    if held_out:
        data = split_holdout(data, config.data.holdout)
    runtime = choose_runtime(replace(config.runtime, device=device, compile=False))
    prepare(runtime, config.runtime.deterministic)
    model = trained.network()
    model.to(runtime.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    loader = evaluation_loader(data.test, runtime, trained.statistics)
    logits, labels = predict_logits(model, loader, runtime, tta)
    return Reevaluation(config, trained, data, "holdout" if held_out else "test", runtime, logits, labels)


def reevaluate(folder: Path, best: bool = False, tta: bool = False, **where: Any) -> dict[str, Any]:
    """The figures of `classification_summary`, with the weights, data, device and precision they belong to.

    Arguments and errors are those of `evaluate_again`.
    """
    found = evaluate_again(folder, best, tta, **where)
    return {
        **classification_summary(found.logits, found.labels, found.data.classes),
        "dataset": found.data.title,
        "evaluated_on": found.evaluated_on,
        "weights": "best" if best else "last",
        "tta": tta,
        "device": str(found.runtime.device),
        "amp": found.runtime.choices["amp"].used,
        "run_dir": str(folder),
    }
