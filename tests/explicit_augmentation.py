"""Every step of the augmentation in float64 numpy, one image after the other: what the backends are compared with."""

from fractions import Fraction

import numpy as np
import torch

from fastcifar.augment.policy import AugmentPolicy

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def noise(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def tap(image: np.ndarray, x: np.ndarray, y: np.ndarray, border: str) -> np.ndarray:
    """Whole pixels of a float64 [32, 32, 3] image, wherever they lie."""
    if border == "constant":
        inside = (x >= 0) & (x < 32) & (y >= 0) & (y < 32)
        return np.where(inside[..., None], image[y.clip(0, 31), x.clip(0, 31)], 0.0)
    row, column = (np.array([*range(32), *range(30, 0, -1)])[place % 62] for place in (y, x))  # dcb|abcd|cba
    return image[row, column]


def explicit(image: np.ndarray, one: dict, policy: AugmentPolicy, size: int) -> np.ndarray:
    """One uint8 image through every step in float64, before normalising: [size, size, 3]."""
    image = image.astype(np.float64)
    if one["flip"]:
        image = image[:, ::-1]
    angle, centre = np.deg2rad(one["angle_degrees"]), np.array([[1, 0, 15.5], [0, 1, 15.5], [0, 0, 1]])
    turn = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    shift = np.array([[1, 0, one["shift_x"]], [0, 1, one["shift_y"]], [0, 0, 1]])
    grow = np.diag([one["scale_x"], one["scale_y"], 1.0])
    inverse = np.linalg.inv(centre @ shift @ turn @ grow @ np.linalg.inv(centre))
    corner = (np.arange(size) + 0.5) * 32 / size
    places = np.stack([*np.meshgrid(corner - 0.5, corner - 0.5), np.ones((size, size))], axis=-1)
    x, y = np.moveaxis(places @ inverse[:2].T, -1, 0)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right_share, bottom_share = (x - left)[..., None], (y - top)[..., None]
    upper = tap(image, left, top, policy.border) * (1 - right_share)
    upper += tap(image, left + 1, top, policy.border) * right_share
    lower = tap(image, left, top + 1, policy.border) * (1 - right_share)
    lower += tap(image, left + 1, top + 1, policy.border) * right_share
    result = upper * (1 - bottom_share) + lower * bottom_share
    if one["dropout"]:
        for i in range(size):
            for j in range(size):
                down, across = Fraction(2 * i + 1, 2) * 32 / size, Fraction(2 * j + 1, 2) * 32 / size
                if (
                    one["hole_x"] <= across < one["hole_x"] + policy.dropout_size
                    and one["hole_y"] <= down < one["hole_y"] + policy.dropout_size
                ):
                    result[i, j] = (125, 122, 113)
    if one["gray"]:
        result[:] = (result @ [0.299, 0.587, 0.114])[..., None]
    return result
