"""One batch through one DALI pipeline: the operators of the dali loader, each part by itself."""

# DALI makes its operators and types when it is imported, so a type checker does not know them.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from fastcifar.augment.dali_backend import augment, fed_motion, motion_feeds, normalise
from fastcifar.augment.draws import AugmentDraws
from fastcifar.augment.policy import IMAGE_SIZE, AugmentPolicy

from nvidia.dali import fn, pipeline_def, types  # isort: skip - the import above says what to do without DALI
from nvidia.dali.data_node import DataNode  # isort: skip

Colour = tuple[float, float, float]


def levels(
    images: np.ndarray,
    draws: AugmentDraws,
    policy: AugmentPolicy,
    fill: tuple[int, int, int],
    device: str,
    size: int = IMAGE_SIZE,
) -> np.ndarray:
    """Flip, affine, dropout, gray: uint8 [B, 32, 32, 3] to grey levels, uint8 [B, size, size, 3]."""

    @pipeline_def(enable_conditionals=True)
    def graph():
        return augment(_images(device), fed_motion(), policy, fill, device == "cuda", size)

    return _run(graph, {"images": images, **motion_feeds(draws, policy, size)}, device)


def normalised(images: np.ndarray, mean: Colour, std: Colour, device: str) -> np.ndarray:
    """uint8 [B, 32, 32, 3] to float32 of the same shape."""

    @pipeline_def
    def graph():
        return normalise(_images(device), mean, std, torch.float32)

    return _run(graph, {"images": images}, device)


def decoded(files: list[bytes], device: str) -> np.ndarray:
    """PNG or JPEG files of 32 x 32 pixels to uint8 [B, 32, 32, 3]."""

    @pipeline_def
    def graph():
        encoded = fn.external_source(name="images", dtype=types.UINT8, ndim=1)
        return fn.decoders.image(encoded, device="cpu" if device == "cpu" else "mixed", output_type=types.RGB)

    return _run(graph, {"images": [np.frombuffer(file, np.uint8) for file in files]}, device)


def _images(device: str) -> DataNode:
    images = fn.external_source(name="images", dtype=types.UINT8, ndim=3, layout="HWC")
    return images if device == "cpu" else images.gpu()


def _run(graph: Any, feeds: Mapping[str, Any], device: str) -> np.ndarray:
    pipeline = graph(
        batch_size=len(feeds["images"]),
        num_threads=torch.get_num_threads(),
        device_id=None if device == "cpu" else torch.cuda.current_device(),
        prefetch_queue_depth=1,
    )
    pipeline.build()
    for name, values in feeds.items():
        pipeline.feed_input(name, values)
    pipeline.schedule_run()
    (outputs,) = pipeline.outputs()
    return np.array((outputs if device == "cpu" else outputs.as_cpu()).as_array())
