"""Where a DALI graph gets its images from: arrays in memory, image files, or members of tar shards."""

# DALI makes its operators and types when it is imported, so a type checker does not know them.
# pyright: reportAttributeAccessIssue=false

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from fastcifar.augment.requirements import require_dali
from fastcifar.dataset.encoded import EncodedImages, ImageFiles, ShardMembers

require_dali()

from nvidia.dali import fn, types  # noqa: E402
from nvidia.dali.data_node import DataNode  # noqa: E402

FEED = "images"
"""Name of the graph's input that `Source.batch` fills."""


class Source(Protocol):
    """Images by index, in a form that the graph's first operators turn into uint8 HWC."""

    def node(self) -> DataNode:
        """The head of the graph; call inside a pipeline's definition."""
        ...

    def batch(self, indices: np.ndarray) -> Any:
        """What is fed for the images `indices` (int64 [B])."""
        ...


def make_source(images: np.ndarray, encoded: EncodedImages | None, device: torch.device) -> Source:
    """The compressed files where there are any, else the arrays.

    images: uint8 [N, 32, 32, 3].
    device: where the decoded images go.
    """
    decoder = "cpu" if device.type == "cpu" else "mixed"  # mixed: JPEG on the GPU, PNG on the CPU
    if isinstance(encoded, ImageFiles):
        return FileSource(encoded, decoder)
    if isinstance(encoded, ShardMembers):
        return ShardSource(encoded, decoder)
    return ArraySource(images) if device.type == "cpu" else DeviceArraySource(torch.tensor(images, device=device))


@dataclass(frozen=True, eq=False)
class ArraySource:
    """uint8 [N, 32, 32, 3] in host memory."""

    images: np.ndarray

    def node(self) -> DataNode:
        """See `Source`."""
        return fn.external_source(name=FEED, dtype=types.UINT8, ndim=3, layout="HWC")

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """See `Source`."""
        return self.images[indices]


@dataclass(frozen=True, eq=False)
class DeviceArraySource:
    """uint8 [N, 32, 32, 3] on a GPU, gathered there, since DALI has no operator for it."""

    images: torch.Tensor

    def node(self) -> DataNode:
        """See `Source`."""
        return fn.external_source(name=FEED, device="gpu", dtype=types.UINT8, ndim=3, layout="HWC")

    def batch(self, indices: np.ndarray) -> torch.Tensor:
        """See `Source`."""
        return self.images.index_select(0, torch.from_numpy(indices).to(self.images.device, non_blocking=True))


@dataclass(frozen=True, eq=False)
class FileSource:
    """PNG or JPEG files, read and decoded by DALI's threads.

    Read by name rather than with `readers.file`, whose shuffle is its own: so the order of an epoch, and what
    happens to an image in it, are those of every other loader.
    """

    files: ImageFiles
    decoder: str

    def node(self) -> DataNode:
        """See `Source`."""
        names = fn.external_source(name=FEED, dtype=types.UINT8, ndim=1)
        # Mapping a file costs more than copying its 3 KB.
        return _decoded(fn.io.file.read(names, dont_use_mmap=True), self.decoder)

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """See `Source`."""
        return self.files.paths[indices]


@dataclass(frozen=True, eq=False)
class ShardSource:
    """PNG or JPEG members of WebDataset shards, taken from memory maps in any order."""

    members: ShardMembers
    decoder: str

    def node(self) -> DataNode:
        """See `Source`."""
        return _decoded(fn.external_source(name=FEED, dtype=types.UINT8, ndim=1), self.decoder)

    def batch(self, indices: np.ndarray) -> list[np.ndarray]:
        """See `Source`."""
        return self.members.read(indices)


def _decoded(encoded: DataNode, decoder: str) -> DataNode:
    return fn.decoders.image(encoded, device=decoder, output_type=types.RGB)
