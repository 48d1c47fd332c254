"""What a trained network takes pictures for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastcifar.config import RuntimeConfig
from fastcifar.dataset.any_picture import images_in, read_any_picture, read_thumbnail
from fastcifar.dataset.image_set import ImageSet
from fastcifar.errors import DataError, UsageError
from fastcifar.evaluation.evaluate import predict_logits
from fastcifar.evaluation.gradcam import gradcam
from fastcifar.loader.choose import evaluation_loader
from fastcifar.predict_picture import LONGEST_SIDE, MOST_ROWS, write_predictions
from fastcifar.runtime import choose_runtime, prepare
from fastcifar.training.trained import TrainedWeights, read_trained


def predict(
    run: Path,
    pictures: Sequence[Path],
    top: int = 3,
    best: bool = False,
    device: str = "auto",
    gradcam_file: Path | None = None,
) -> tuple[dict[str, Any], list[DataError]]:
    """Classify pictures with a run's last (or best) weights, in fp32.

    Args:
        run: a run folder or a weights file.
        pictures: files that pillow reads, and folders of such files.
        top: how many classes to name for each.
        gradcam_file: PNG to write, with the first `MOST_ROWS` of the pictures that could be read and what in them
            speaks for their likeliest class; not written where none could.

    Returns:
        The weights, network, data set and device; "gradcam": the PNG that was written, or None; "images": {"file",
        "predictions"} for each that could be read, the predictions being {"class", "probability"}, the likeliest
        first; "failed": {"file", "reason"} for each other one. Beside it the failures themselves.

    Raises:
        DataError, UsageError: the run or file cannot be used, or the PNG would replace one of the pictures.
    """
    trained = read_trained(run, best)
    files, images, failures = _read(pictures)
    if gradcam_file is not None and gradcam_file.resolve() in [file.resolve() for file in files]:
        raise UsageError(f"{gradcam_file}: is one of the pictures", "write the Grad-CAM picture to another file")
    runtime = choose_runtime(RuntimeConfig(device=device, amp=False, compile=False))
    prepare(runtime, deterministic=False)
    record = {
        "weights": str(trained.file),
        "model": trained.model,
        "dataset": trained.dataset,
        "device": str(runtime.device),
        "gradcam": None,
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
        if gradcam_file is not None:
            seen = ImageSet(batch.images[:MOST_ROWS], batch.labels[:MOST_ROWS])
            ((normalised, _),) = evaluation_loader(seen, runtime, trained.statistics)
            heat = gradcam(model, normalised, logits[:MOST_ROWS].argmax(dim=1))
            thumbnails = [read_thumbnail(file, LONGEST_SIDE) for file in files[:MOST_ROWS]]
            write_predictions(record, thumbnails, seen.images, heat, gradcam_file)
            record["gradcam"] = str(gradcam_file)
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
