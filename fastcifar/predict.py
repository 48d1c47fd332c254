"""What a trained network takes pictures for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastcifar.config import RuntimeConfig
from fastcifar.dataset.any_picture import images_in, read_any_picture
from fastcifar.dataset.image_set import ImageSet
from fastcifar.errors import DataError
from fastcifar.evaluation.evaluate import predict_logits
from fastcifar.loader.choose import evaluation_loader
from fastcifar.runtime import choose_runtime, prepare
from fastcifar.training.trained import TrainedWeights, read_trained


def predict(
    run: Path, pictures: Sequence[Path], top: int = 3, best: bool = False, device: str = "auto"
) -> tuple[dict[str, Any], list[DataError]]:
    """Classify pictures with a run's last (or best) weights, in fp32.

    Args:
        run: a run folder or a weights file.
        pictures: files that pillow reads, and folders of such files.
        top: how many classes to name for each.

    Returns:
        The weights, network, data set and device; "images": {"file", "predictions"} for each that could be read,
        the predictions being {"class", "probability"}, the likeliest first; "failed": {"file", "reason"} for each
        other one. Beside it the failures themselves.

    Raises:
        DataError, UsageError: the run or file cannot be used.
    """
    trained = read_trained(run, best)
    files, images, failures = _read(pictures)
    runtime = choose_runtime(RuntimeConfig(device=device, amp=False, compile=False))
    prepare(runtime, deterministic=False)
    record = {
        "weights": str(trained.file),
        "model": trained.model,
        "dataset": trained.dataset,
        "device": str(runtime.device),
        "images": [],
        "failed": [{"file": str(path), "reason": error.what} for path, error in failures],
    }
    if files:
        model = trained.network()
        model.to(runtime.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        batch = ImageSet(np.stack(images), np.zeros(len(images), dtype=np.int64))
        logits, _ = predict_logits(model, evaluation_loader(batch, runtime, trained.statistics), runtime)
        likeliest = _likeliest(logits, trained, top)
        record["images"] = [
            {"file": str(file), "predictions": found} for file, found in zip(files, likeliest, strict=True)
        ]
    return record, [error for _, error in failures]


def _read(pictures: Sequence[Path]) -> tuple[list[Path], list[np.ndarray], list[tuple[Path, DataError]]]:
    """The readable files, their pixels, and what was wrong with the others."""
    files, images, failures = [], [], []
    for picture in pictures:
        try:
            found = images_in(picture) if picture.is_dir() else [picture]
        except DataError as error:
            failures.append((picture, error))
            continue
        for file in found:
            try:
                images.append(read_any_picture(file))
                files.append(file)
            except DataError as error:
                failures.append((file, error))
    return files, images, failures


def _likeliest(logits: Tensor, trained: TrainedWeights, top: int) -> list[list[dict[str, Any]]]:
    """For each row of logits [N, C] the `top` likeliest classes."""
    probabilities, places = logits.softmax(dim=1).topk(min(top, len(trained.classes)))
    return [
        [{"class": trained.classes[place], "probability": value} for value, place in zip(row, which, strict=True)]
        for row, which in zip(probabilities.tolist(), places.tolist(), strict=True)
    ]
