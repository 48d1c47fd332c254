"""The weights of a run folder, measured again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fastcifar.dataset.image_set import split_holdout
from fastcifar.dataset.load import load_dataset
from fastcifar.errors import DataError
from fastcifar.evaluation.evaluate import predict_logits
from fastcifar.evaluation.metrics import classification_summary
from fastcifar.loader.choose import evaluation_loader
from fastcifar.paths import named_data_dir
from fastcifar.runtime import choose_runtime, prepare
from fastcifar.training.run_log import read_resolved_config
from fastcifar.training.trained import read_trained


def reevaluate(
    folder: Path,
    best: bool = False,
    tta: bool = False,
    dataset: str | None = None,
    data_dir: str | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Evaluate a run's last (or best) weights on what it was evaluated on, in the precision it was trained in.

    Args:
        dataset, data_dir: override the run's; the normalisation stays the run's own.

    Returns:
        The figures of `classification_summary`, with the weights, data, device and precision they belong to.

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
    if config.data.holdout and same_data:
        data = split_holdout(data, config.data.holdout)
    runtime = choose_runtime(replace(config.runtime, device=device, compile=False))
    prepare(runtime, config.runtime.deterministic)
    model = trained.network()
    model.to(runtime.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    loader = evaluation_loader(data.test, runtime, trained.statistics)
    logits, labels = predict_logits(model, loader, runtime, tta)
    return {
        **classification_summary(logits, labels, data.classes),
        "dataset": data.title,
        "evaluated_on": "holdout" if config.data.holdout and same_data else "test",
        "weights": "best" if best else "last",
        "tta": tta,
        "device": str(runtime.device),
        "amp": runtime.choices["amp"].used,
        "run_dir": str(folder),
    }
