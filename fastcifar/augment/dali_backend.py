"""The policy as NVIDIA DALI operators: with our draws fed in, or with DALI's own random operators.

Importing this file raises DeviceError where DALI is not installed.
"""

# DALI makes its operators and types when it is imported, so a type checker does not know them.
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fastcifar.augment.draws import AugmentDraws, inverse_affine
from fastcifar.augment.normalisation import normalisation_constants
from fastcifar.augment.policy import IMAGE_SIZE, AugmentPolicy
from fastcifar.augment.requirements import require_dali

require_dali()

from nvidia.dali import fn, types  # noqa: E402
from nvidia.dali import math as dali_math  # noqa: E402
from nvidia.dali.data_node import DataNode  # noqa: E402

BORDER_MODES = {"reflect-101": "reflect_101", "constant": "constant"}


@dataclass(frozen=True)
class Motion:
    """What happens to each image, as nodes of a DALI graph on the CPU; the parameters of `augment`."""

    flip: DataNode
    """bool []: mirrored left to right."""
    affine: DataNode
    """bool []: moved by `matrix`."""
    matrix: DataNode
    """float32 [3, 3]: (x, y, 1) in the output, where pixel centres have whole coordinates, to the image."""
    hole_anchor: DataNode
    """float32 [2]: top row and left column of the hole, in pixels of the output."""
    hole_shape: DataNode
    """float32 [2]: the hole's height and width; 0 for none."""
    gray: DataNode
    """bool []: turned to gray."""


FEEDS: dict[str, tuple[types.DALIDataType, int]] = {
    "flip": (types.BOOL, 0),
    "affine": (types.BOOL, 0),
    "matrix": (types.FLOAT, 2),
    "hole_anchor": (types.FLOAT, 1),
    "hole_shape": (types.FLOAT, 1),
    "gray": (types.BOOL, 0),
}
"""Type and dimensions of each field of `Motion`."""


def fed_motion() -> Motion:
    """Parameters that the pipeline is fed with before each batch, by `motion_feeds`."""
    return Motion(**{name: fn.external_source(name=name, dtype=kind, ndim=n) for name, (kind, n) in FEEDS.items()})


def motion_feeds(draws: AugmentDraws, policy: AugmentPolicy, size: int = IMAGE_SIZE) -> dict[str, np.ndarray]:
    """Our draws of a batch (on the CPU) as the arrays that `fed_motion` asks for, each [B, ...].

    What `augment` leaves out of the graph, since it never happens under the policy or at this size, is left out here
    too.

    size: side of the output in pixels. Output pixel i has its centre at (i + .5) 32 / size of the moved image.
    """
    feeds = {}
    if policy.flip > 0:
        feeds["flip"] = draws.flip.numpy()
    if size == IMAGE_SIZE and policy.affine > 0:
        feeds["affine"] = draws.affine.numpy()
    if size != IMAGE_SIZE or policy.affine > 0:
        step = IMAGE_SIZE / size
        matrix = torch.zeros(len(draws.flip), 3, 3, dtype=torch.float64)
        matrix[:, :2] = inverse_affine(draws)
        matrix[:, :2, 2] += matrix[:, :2, :2].sum(2) * (step / 2 - 0.5)
        matrix[:, :2, :2] *= step
        matrix[:, 2, 2] = 1
        feeds["matrix"] = matrix.float().numpy()
    if policy.dropout > 0:
        corners = torch.stack([draws.hole_y, draws.hole_x], dim=1)
        first, end = (_first_pixel_at(corner, size) for corner in (corners, corners + policy.dropout_size))
        feeds["hole_anchor"] = first.float().numpy()
        feeds["hole_shape"] = ((end - first) * draws.dropout[:, None]).float().numpy()
    if policy.gray > 0:
        feeds["gray"] = draws.gray.numpy()
    return feeds


def _first_pixel_at(corner: torch.Tensor, size: int) -> torch.Tensor:
    """The first output pixel whose centre lies at or after a corner, in whole numbers as in reference.hole_mask."""
    return -((IMAGE_SIZE - 2 * size * corner) // (2 * IMAGE_SIZE))


def random_motion(policy: AugmentPolicy, size: int = IMAGE_SIZE) -> tuple[Motion, dict[str, DataNode]]:
    """Parameters drawn by DALI's random operators under the policy's laws, seeded by the pipeline.

    size: side of the output in pixels.

    Returns:
        The parameters, and the draws behind them under the names of `AugmentDraws`' fields.
    """
    probabilities = _row(policy.flip, policy.affine, policy.dropout, policy.gray)
    coins = fn.random.uniform(range=(0.0, 1.0), shape=[4]) < probabilities
    pixels = IMAGE_SIZE * policy.shift
    # Angle, scale x, scale y, shift x, shift y.
    reach = _row(policy.rotate_degrees, policy.scale, policy.scale, pixels, pixels)
    moves = fn.random.uniform(range=(-1.0, 1.0), shape=[5]) * reach * coins[1]
    angle, shift = moves[0], moves[3:5]
    if policy.affine_law == "albumentations-2":
        scale = moves[1:3] + 1.0
        # Cut towards 0, which DALI's own conversion to whole numbers, a rounding, does not do.
        shift = dali_math.floor(dali_math.max(shift, 0.0)) + dali_math.ceil(dali_math.min(shift, 0.0))
    else:
        scale = fn.stack(moves[1], moves[1]) + 1.0  # pyright: ignore[reportOperatorIssue]
    # Whole values: DALI's uniform(range=(0, 16), dtype=INT32) rounds, which halves the chance of both ends.
    places = [float(place) for place in range(IMAGE_SIZE - policy.dropout_size + 1)]
    corner = fn.random.uniform(values=places, shape=[2])
    # As in `_first_pixel_at`; exact in float32, since all numbers are short.
    ratio = size / IMAGE_SIZE
    first, end = (dali_math.ceil(place * ratio - 0.5) for place in (corner, corner + float(policy.dropout_size)))
    motion = Motion(
        flip=coins[0],
        affine=coins[1],
        matrix=_matrix(angle, scale, shift, size),
        hole_anchor=first,
        hole_shape=(end - first) * coins[2],
        gray=coins[3],
    )
    draws = {
        "flip": coins[0],
        "affine": coins[1],
        "angle_degrees": angle,
        "scale_x": scale[0],
        "scale_y": scale[1],
        "shift_x": shift[0],
        "shift_y": shift[1],
        "dropout": coins[2],
        "hole_x": corner[1],
        "hole_y": corner[0],
        "gray": coins[3],
    }
    return motion, draws


def _row(*values: float) -> Any:
    return types.Constant(np.array(values, dtype=np.float32))


def _matrix(angle: DataNode, scale: DataNode, shift: DataNode, size: int) -> DataNode:
    """Motion.matrix from degrees, factors [x, y] and pixels [x, y], undone in turn from the last."""
    centre = [(IMAGE_SIZE - 1) / 2] * 2
    chain = fn.transforms.translation(offset=-shift)
    if size != IMAGE_SIZE:
        to_stored_pixels = fn.transforms.scale(scale=[IMAGE_SIZE / size] * 2, center=[-0.5, -0.5])
        chain = fn.transforms.combine(to_stored_pixels, chain)
    chain = fn.transforms.rotation(chain, angle=angle, center=centre)  # DALI's positive angles turn clockwise
    chain = fn.transforms.scale(chain, scale=1.0 / scale, center=centre)
    return fn.cat(chain, types.Constant(np.array([[0.0, 0.0, 1.0]], dtype=np.float32)), axis=0)


def augment(
    images: DataNode,
    motion: Motion,
    policy: AugmentPolicy,
    fill: tuple[int, int, int],
    gpu: bool,
    size: int = IMAGE_SIZE,
) -> DataNode:
    """Flip, affine, dropout, gray: uint8 HWC images of 32 x 32 pixels to grey levels, uint8 HWC, of `size`.

    For use in a function under `pipeline_def(enable_conditionals=True)`: an operator runs on those images only
    that it changes, except the erase, which is cheaper on all. Operators whose probability is 0 are left out.

    fill: grey levels of the hole.
    """
    if policy.flip > 0 and motion.flip:
        images = fn.flip(images)
    if size != IMAGE_SIZE:
        images = _warp(images, motion.matrix, policy, gpu, size=[float(size)] * 2)
    elif policy.affine > 0 and motion.affine:
        images = _warp(images, motion.matrix, policy, gpu)
    if policy.dropout > 0:
        levels = [float(level) for level in fill]
        images = fn.erase(
            images, anchor=motion.hole_anchor, shape=motion.hole_shape, axis_names="HW", fill_value=levels
        )
    if policy.gray > 0 and motion.gray:
        luma = fn.color_space_conversion(images, image_type=types.RGB, output_type=types.GRAY)
        images = fn.cat(luma, luma, luma, axis=2)
    return images


def _warp(images: DataNode, matrix: DataNode, policy: AugmentPolicy, gpu: bool, **size: list[float]) -> DataNode:
    return fn.experimental.warp_perspective(
        images,
        matrix.gpu() if gpu else matrix,
        pixel_origin="center",
        inverse_map=True,
        border_mode=BORDER_MODES[policy.border],
        fill_value=[0.0, 0.0, 0.0],
        **size,
    )


def normalise(
    levels: DataNode, mean: tuple[float, float, float], std: tuple[float, float, float], dtype: torch.dtype
) -> DataNode:
    """uint8 HWC grey levels to HWC in float32 or float16; mean and std as fractions of 1."""
    means, deviations = normalisation_constants(mean, std)
    return fn.crop_mirror_normalize(
        levels,
        dtype=types.FLOAT16 if dtype == torch.float16 else types.FLOAT,
        output_layout="HWC",
        mean=list(means),
        std=list(deviations),
    )
