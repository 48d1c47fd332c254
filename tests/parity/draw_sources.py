"""Draws from each of the three generators: ours, DALI's and albumentations', as arrays by the names of AugmentDraws."""

import functools
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from laws import COINS, CORNER, MOTION

from fastcifar.augment.draws import AugmentDraws, sample_draws
from fastcifar.augment.policy import IMAGE_SIZE, AugmentPolicy
from fastcifar.augment.requirements import require_albumentations, require_dali
from fastcifar.errors import DeviceError

Arrays = dict[str, np.ndarray]

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
EPOCH, BATCH = 50_000, 512
COUNT = 2 * EPOCH
LAGS = (1, BATCH, EPOCH)
"""The next image, the same place in the next batch, the same image in the next epoch."""


def skip_without(require: Callable[[], object]) -> None:
    """Skip the test where an optional package is missing, with the error's own advice as the reason."""
    try:
        require()
    except DeviceError as error:
        pytest.skip(f"{error.what}: {error.hint}")


@functools.cache
def our_draws(policy: AugmentPolicy) -> Arrays:
    """Two epochs of our draws."""
    epochs = [sample_draws(policy, 2024, epoch, torch.arange(EPOCH)) for epoch in (3, 4)]
    names = [field.name for field in fields(AugmentDraws)]
    return {name: np.concatenate([getattr(draws, name).numpy() for draws in epochs]) for name in names}


@functools.cache
def dali_draws(policy: AugmentPolicy) -> Arrays:
    """Two epochs of DALI's draws, each from a pipeline and a seed of its own as in the loader."""
    epochs = [dali_motion(policy, seed, EPOCH, draws_alone=True)[1] for seed in (3, 4)]
    return {name: np.concatenate([draws[name] for draws in epochs]) for name in epochs[0]}


def dali_motion(
    policy: AugmentPolicy,
    seed: int,
    count: int,
    size: int = IMAGE_SIZE,
    threads: int = 1,
    draws_alone: bool = False,
) -> tuple[Arrays, Arrays]:
    """What `random_motion` gives for the first `count` images: the motion, and the draws behind it.

    draws_alone: leave the motion out of the graph.
    """
    skip_without(require_dali)
    from nvidia.dali import pipeline_def

    from fastcifar.augment.dali_backend import random_motion

    names: list[list[str]] = []

    @pipeline_def
    def graph():
        motion, draws = random_motion(policy, size)
        parts = [{} if draws_alone else vars(motion), draws]
        names[:] = [list(part) for part in parts]
        return tuple(node for part in parts for node in part.values())

    pipeline: Any = graph(batch_size=BATCH, num_threads=threads, device_id=None, seed=seed, prefetch_queue_depth=1)
    pipeline.build()
    batches = [[np.array(output.as_array()) for output in pipeline.run()] for _ in range(0, count, BATCH)]
    outputs = [np.concatenate(parts)[:count] for parts in zip(*batches, strict=True)]
    motion, draws = names
    return dict(zip(motion, outputs, strict=False)), dict(zip(draws, outputs[len(motion) :], strict=True))


@functools.cache
def albumentations_draws(policy: AugmentPolicy) -> Arrays:
    """What a Compose draws for 100,000 images one after another, by its transforms' own methods but without pixels.

    Its angles are above 0 counter-clockwise and its holes (left, top, right, bottom), the ends excluded: as ours. The
    corner is 0 where no hole is cut. Matrices, half of the time, are left out; see `composed_parameters`.
    """
    pipeline = composed(policy)
    from albumentations.augmentations.geometric import functional

    def kept(shift: dict, shear: dict, scale: dict, angle: float, centre: tuple[float, float]) -> tuple[float, ...]:
        return angle, scale["x"], scale["y"], shift["x"], shift["y"]

    coins = np.zeros((COUNT, 4), dtype=bool)
    motion, corners = np.tile([0.0, 1.0, 1.0, 0.0, 0.0], (COUNT, 1)), np.zeros((COUNT, 2), dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, "create_affine_transformation_matrix", kept)
        for row in range(COUNT):
            pipeline.py_random.random()  # whether the Compose is applied at all
            for column, transform in enumerate(pipeline.transforms[:4]):
                coins[row, column] = transform.should_apply()
                if coins[row, column]:
                    parameters = transform.get_params_dependent_on_data({"shape": (IMAGE_SIZE, IMAGE_SIZE, 3)}, {})
                    if "matrix" in parameters:
                        motion[row] = parameters["matrix"]
                    if "holes" in parameters:
                        corners[row] = parameters["holes"][0, :2]
    return dict(zip((*COINS, *MOTION, *CORNER), (*coins.T, *motion.T, *corners.T), strict=True))


def composed_parameters(pipeline: Any, count: int) -> list[list[dict[str, Any]]]:
    """Parameters of a Compose's first four transforms after each of `count` real calls; empty where not applied."""
    image, found = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8), []
    for _ in range(count):
        pipeline(image=image)
        found.append([transform.get_applied_params() for transform in pipeline.transforms[:4]])
    return found


def composed(policy: AugmentPolicy) -> Any:
    """A seeded `compose`, each time from its start."""
    skip_without(require_albumentations)
    from fastcifar.augment.albumentations_backend import compose

    return compose(policy, MEAN, STD, seed=5)
