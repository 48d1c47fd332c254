"""The weights of a run folder, measured again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fastcifar.config import RuntimeConfig, config_from_dict
from fastcifar.dataset.image_set import split_holdout
from fastcifar.dataset.load import load_dataset
from fastcifar.errors import DataError
from fastcifar.evaluation.evaluate import predict_logits
from fastcifar.evaluation.metrics import summarize
from fastcifar.loader.resident import ResidentLoader
from fastcifar.model.registry import build_model
from fastcifar.paths import named_data_dir
from fastcifar.runtime import choose_runtime, prepare
from fastcifar.training.checkpoint import load_weights, restore
from fastcifar.training.run_log import CONFIG_FILE, read_run_config

BATCH_SIZE = 1000


def reevaluate(
    folder: Path,
    best: bool = False,
    tta: bool = False,
    dataset: str | None = None,
    data_dir: str | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Evaluate a run's last (or best) weights in fp32 on what it was evaluated on.

    Args:
        dataset, data_dir: override the run's; the normalisation stays the run's own.

    Returns:
        The figures of `summarize`, with the weights, data and device they belong to.

    Raises:
        DataError: no run, damaged weights, weights of another model, or data with other classes.
    """
    config = config_from_dict(read_run_config(folder)["config"], str(folder / CONFIG_FILE))
    weights = folder / ("best.safetensors" if best else "last.safetensors")
    tensors, metadata = load_weights(weights)
    name = dataset or config.data.dataset
    same_data = name == config.data.dataset
    data = load_dataset(name, data_dir or (named_data_dir(config.data.dir) if same_data else None), config.data.offline)
    if list(data.classes) != metadata["classes"]:
        raise DataError(
            f"{data.source}: its classes are not those that {folder} was trained on",
            f"evaluate on {metadata['dataset']}",
        )
    if config.data.holdout and same_data:
        data = split_holdout(data, config.data.holdout)
    runtime = choose_runtime(replace(RuntimeConfig(), device=device, amp=False))
    prepare(runtime, deterministic=False)
    model = build_model(metadata["model"], len(metadata["classes"]))
    restore(model, tensors, str(weights))
    model.to(runtime.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    loader = ResidentLoader(
        data.test.images,
        data.test.labels,
        min(BATCH_SIZE, len(data.test)),
        policy=None,
        mean=tuple(metadata["mean"]),
        std=tuple(metadata["std"]),
        seed=0,
        device=runtime.device,
        dtype=torch.float32,
        shuffle=False,
        drop_last=False,
    )
    logits, labels = predict_logits(model, loader, runtime, tta)
    return {
        **summarize(logits, labels, data.classes),
        "dataset": data.title,
        "evaluated_on": "holdout" if config.data.holdout and same_data else "test",
        "weights": "best" if best else "last",
        "tta": tta,
        "device": str(runtime.device),
        "run_dir": str(folder),
    }
