"""The policy as NVIDIA DALI operators: with our draws fed in, or with DALI's own random operators.

Importing this file raises DeviceError where DALI is not installed.
"""

# DALI makes its operators and types when it is imported, so a type checker does not know them.
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false

from dataclasses import dataclass

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
    """int32 []: 1 mirrors left to right."""
    warps: DataNode
    """bool []: the image is sampled through `matrix`; where it is False that would change nothing."""
    matrix: DataNode
    """float32 [3, 3]: (x, y, 1) in the output, where pixel centres have whole coordinates, to the image."""
    size: DataNode
    """float32 [2]: height and width of the output."""
    hole_anchor: DataNode
    """float32 [2]: top row and left column of the hole, in pixels of the output."""
    hole_shape: DataNode
    """float32 [2]: the hole's height and width; 0 for none."""
    gray: DataNode
    """bool []: turned to gray."""


FEEDS: dict[str, tuple[types.DALIDataType, int]] = {
    "flip": (types.INT32, 0),
    "warps": (types.BOOL, 0),
    "matrix": (types.FLOAT, 2),
    "size": (types.FLOAT, 1),
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

    What `augment` leaves out of the graph, since it never happens under the policy, is left out here too.

    size: side of the output in pixels. Output pixel i has its centre at (i + .5) 32 / size of the moved image.
    """
    count, step = len(draws.flip), IMAGE_SIZE / size
    matrix = torch.zeros(count, 3, 3, dtype=torch.float64)
    matrix[:, :2] = inverse_affine(draws)
    matrix[:, :2, 2] += matrix[:, :2, :2].sum(2) * (step / 2 - 0.5)
    matrix[:, :2, :2] *= step
    matrix[:, 2, 2] = 1
    # The first output pixel whose centre lies at or after a corner, in whole numbers as in reference.hole_mask.
    corners = torch.stack([draws.hole_y, draws.hole_x], dim=1)
    first, end = (
        -((IMAGE_SIZE - 2 * size * place) // (2 * IMAGE_SIZE)) for place in (corners, corners + policy.dropout_size)
    )
    feeds = {
        "warps": (draws.affine | (size != IMAGE_SIZE)).numpy(),
        "matrix": matrix.float().numpy(),
        "size": np.full((count, 2), size, dtype=np.float32),
    }
    if policy.flip > 0:
        feeds["flip"] = draws.flip.int().numpy()
    if policy.dropout > 0:
        feeds["hole_anchor"] = first.float().numpy()
        feeds["hole_shape"] = ((end - first) * draws.dropout[:, None]).float().numpy()
    if policy.gray > 0:
        feeds["gray"] = draws.gray.numpy()
    return feeds


def random_motion(policy: AugmentPolicy, size: DataNode) -> tuple[Motion, dict[str, DataNode]]:
    """Parameters drawn by DALI's random operators under the policy's laws, seeded by the pipeline.

    Returns:
        The parameters, and the draws behind them under the names of `AugmentDraws`' fields.
    """
    flip, affine, dropout, gray = (
        fn.random.coin_flip(probability=p, dtype=types.BOOL)
        for p in (policy.flip, policy.affine, policy.dropout, policy.gray)
    )
    reach, pixels = policy.rotate_degrees, IMAGE_SIZE * policy.shift
    angle = _uniform(reach)
    shift = _uniform(pixels, shape=[2])
    scale_x = scale_y = _uniform(policy.scale) + 1.0
    if policy.affine_law == "albumentations-2":
        scale_y = _uniform(policy.scale) + 1.0
        # Cut towards 0, which DALI's own conversion to whole numbers, a rounding, does not do.
        shift = dali_math.floor(dali_math.max(shift, 0.0)) + dali_math.ceil(dali_math.min(shift, 0.0))
    coin = fn.cast(affine, dtype=types.FLOAT)
    angle, shift = angle * coin, shift * coin
    scale_x, scale_y = ((scale - 1.0) * coin + 1.0 for scale in (scale_x, scale_y))
    # Whole values: DALI's uniform(range=(0, 16), dtype=INT32) rounds, which halves the chance of both ends.
    places = [float(place) for place in range(IMAGE_SIZE - policy.dropout_size + 1)]
    corner = fn.random.uniform(values=places, shape=[2])

    # To the whole number at or above corner * size / 32 - 1/2, as in `motion_feeds`; exact, since all are short.
    ratio = size / float(IMAGE_SIZE)
    first, end = (dali_math.ceil(place * ratio - 0.5) for place in (corner, corner + float(policy.dropout_size)))
    motion = Motion(
        flip=fn.cast(flip, dtype=types.INT32),
        warps=affine | (size[0] != float(IMAGE_SIZE)),
        matrix=_matrix(angle, fn.stack(scale_x, scale_y), shift, size),
        size=size,
        hole_anchor=first,
        hole_shape=(end - first) * fn.cast(dropout, dtype=types.FLOAT),
        gray=gray,
    )
    draws = {
        "flip": flip,
        "affine": affine,
        "angle_degrees": angle,
        "scale_x": scale_x,
        "scale_y": scale_y,
        "shift_x": shift[0],
        "shift_y": shift[1],
        "dropout": dropout,
        "hole_x": corner[1],
        "hole_y": corner[0],
        "gray": gray,
    }
    return motion, draws


def _uniform(reach: float, **shape: list[int]) -> DataNode:
    """Uniform on -reach .. reach; DALI refuses an empty range, so 0 comes from a product."""
    return fn.random.uniform(range=(-1.0, 1.0), **shape) * reach


def _matrix(angle: DataNode, scale: DataNode, shift: DataNode, size: DataNode) -> DataNode:
    """Motion.matrix from degrees, factors [x, y], pixels [x, y] and the output's size, undone in turn from the last."""
    centre = [(IMAGE_SIZE - 1) / 2] * 2
    chain = fn.transforms.scale(scale=float(IMAGE_SIZE) / size, center=[-0.5, -0.5])
    chain = fn.transforms.translation(chain, offset=-shift)
    chain = fn.transforms.rotation(chain, angle=angle, center=centre)  # DALI's positive angles turn clockwise
    chain = fn.transforms.scale(chain, scale=1.0 / scale, center=centre)
    return fn.cat(chain, types.Constant(np.array([[0.0, 0.0, 1.0]], dtype=np.float32)), axis=0)


def augment(images: DataNode, motion: Motion, policy: AugmentPolicy, fill: tuple[int, int, int], gpu: bool) -> DataNode:
    """Flip, affine, dropout, gray: uint8 HWC images of 32 x 32 pixels to grey levels, uint8 HWC, of `motion.size`.

    For use in a function under `pipeline_def(enable_conditionals=True)`: images at rest skip the warp, and only
    those that turn gray are converted. Operators whose probability is 0 are left out of the graph.

    fill: grey levels of the hole.
    """
    if policy.flip > 0:
        images = fn.flip(images, horizontal=motion.flip)
    matrix = motion.matrix.gpu() if gpu else motion.matrix
    if motion.warps:
        images = fn.experimental.warp_perspective(
            images,
            matrix,
            size=motion.size,
            pixel_origin="center",
            inverse_map=True,
            border_mode=BORDER_MODES[policy.border],
            fill_value=[0.0, 0.0, 0.0],
        )
    if policy.dropout > 0:
        levels = [float(level) for level in fill]
        images = fn.erase(
            images, anchor=motion.hole_anchor, shape=motion.hole_shape, axis_names="HW", fill_value=levels
        )
    if policy.gray > 0 and motion.gray:
        luma = fn.color_space_conversion(images, image_type=types.RGB, output_type=types.GRAY)
        images = fn.cat(luma, luma, luma, axis=2)
    return images


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
