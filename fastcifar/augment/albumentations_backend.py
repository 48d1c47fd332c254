"""The policy through albumentations 2.0.8: with given draws, the outside reference; and as an ordinary Compose.

Importing this file raises DeviceError where albumentations 2.0.8 with OpenCV 5 is not installed.
"""

import random
from typing import Any

import numpy as np

from fastcifar.augment.coarse_dropout import coarse_dropout_arguments
from fastcifar.augment.draws import AugmentDraws, inverse_affine
from fastcifar.augment.policy import IMAGE_SIZE, AugmentPolicy, dropout_fill
from fastcifar.augment.requirements import require_albumentations

require_albumentations()  # before the import, which could find another package

import albumentations as A  # noqa: E402
import cv2  # noqa: E402
from albumentations.augmentations.geometric import functional as geometric  # noqa: E402
from albumentations.pytorch import ToTensorV2  # noqa: E402

BORDER_MODES = {"reflect-101": cv2.BORDER_REFLECT_101, "constant": cv2.BORDER_CONSTANT}


def augmented_levels(
    images: np.ndarray, draws: AugmentDraws, policy: AugmentPolicy, fill: tuple[int, int, int]
) -> np.ndarray:
    """Flip, affine, dropout, gray with given draws: uint8 [B, 32, 32, 3] to grey levels of the same shape and type.

    Each transform is albumentations' own, called with the parameters that it would otherwise have drawn.

    fill: grey levels of the hole.
    """
    flip, gray = A.HorizontalFlip(), A.ToGray()
    affine = A.Affine(border_mode=BORDER_MODES[policy.border], fill=0)
    dropout = A.CoarseDropout(fill=fill)
    matrices, corners = forward_matrices(draws), np.stack([draws.hole_x.numpy(), draws.hole_y.numpy()], axis=1)
    results = np.empty_like(images)
    for row, image in enumerate(images):
        if draws.flip[row]:
            image = flip.apply(image)
        if draws.affine[row]:
            image = affine.apply(image, matrix=matrices[row], output_shape=(IMAGE_SIZE, IMAGE_SIZE))
        if draws.dropout[row]:
            hole = np.concatenate([corners[row], corners[row] + policy.dropout_size])
            image = dropout.apply(image, holes=hole[None], seed=0)
        if draws.gray[row]:
            image = gray.apply(image)
        results[row] = image
    return results


def forward_matrices(draws: AugmentDraws) -> np.ndarray:
    """Matrices [B, 3, 3], float64: (x, y, 1) in the image to its place in the moved one, as OpenCV takes them."""
    inverse = np.tile(np.eye(3), (len(draws.flip), 1, 1))
    inverse[:, :2] = inverse_affine(draws).numpy()
    return np.linalg.inv(inverse)


def normalised(levels: np.ndarray, mean: tuple[float, float, float], std: tuple[float, float, float]) -> np.ndarray:
    """uint8 [B, H, W, 3] to float32 [B, H, W, 3] by albumentations' Normalize; mean and std as fractions of 1."""
    normalise = A.Normalize(mean=mean, std=std, max_pixel_value=255.0)
    return np.stack([normalise.apply(image) for image in levels])


def compose(
    policy: AugmentPolicy,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    seed: int | None = None,
) -> A.Compose:
    """The policy as albumentations users write it, with albumentations' own randomness.

    Called as `compose(image=image)["image"]`: uint8 [32, 32, 3] to a float32 tensor [3, 32, 32].

    In a DataLoader the workers inherit one and the same random state, anew in each epoch. Give it a
    `worker_init_fn` that calls `seed_compose(compose, torch.initial_seed() % 2**32)` on the worker's own copy.
    """
    pipeline = A.Compose(
        [
            A.HorizontalFlip(p=policy.flip),
            shift_scale_rotate(policy),
            coarse_dropout(
                num_holes_range=(1, 1),
                hole_height_range=(policy.dropout_size, policy.dropout_size),
                hole_width_range=(policy.dropout_size, policy.dropout_size),
                fill=dropout_fill(mean),
                p=policy.dropout,
            ),
            A.ToGray(p=policy.gray),
            A.Normalize(mean=mean, std=std, max_pixel_value=255.0),
            ToTensorV2(),
        ]
    )
    if seed is not None:
        seed_compose(pipeline, seed)
    return pipeline


def seed_compose(pipeline: A.Compose, seed: int) -> None:
    """Seed all transforms with one stream.

    albumentations' own `Compose(seed=)` and `set_random_seed` start each transform's generator from the same seed, so
    that transforms see the same numbers: with flip 0.5 and gray 0.2 only flipped images would ever turn gray.
    """
    pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))


def coarse_dropout(**arguments: Any) -> A.CoarseDropout:
    """A.CoarseDropout from either spelling of its arguments; see `coarse_dropout_arguments`."""
    return A.CoarseDropout(**coarse_dropout_arguments(**arguments))


def shift_scale_rotate(policy: AugmentPolicy) -> A.Affine:
    """The policy's affine with albumentations' own draws, under the policy's law."""
    law = ClassicAffine if policy.affine_law == "classic" else A.Affine
    return law(
        scale=(1 - policy.scale, 1 + policy.scale),
        translate_percent={"x": (-policy.shift, policy.shift), "y": (-policy.shift, policy.shift)},
        rotate=(-policy.rotate_degrees, policy.rotate_degrees),
        border_mode=BORDER_MODES[policy.border],
        fill=0,
        p=policy.affine,
    )


class ClassicAffine(A.Affine):
    """ShiftScaleRotate as up to albumentations 1.4.0: one factor for both axes, shifts of any length."""

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """The parameters of one image, drawn from the transform's own generator."""
        height, width = params["shape"][:2]
        rotate = self.py_random.uniform(*self.rotate)
        factor = self.py_random.uniform(*self.scale["x"])
        percent = self.translate_percent or {"x": (0.0, 0.0), "y": (0.0, 0.0)}
        shift = {axis: self.py_random.uniform(*percent[axis]) * side for axis, side in (("x", width), ("y", height))}
        scale, no_shear = {"x": factor, "y": factor}, {"x": 0.0, "y": 0.0}
        centre = ((width - 1) / 2, (height - 1) / 2)
        matrix = geometric.create_affine_transformation_matrix(shift, no_shear, scale, rotate, centre)
        return {
            "rotate": rotate,
            "scale": scale,
            "matrix": matrix,
            "bbox_matrix": matrix,
            "output_shape": (height, width),
        }
