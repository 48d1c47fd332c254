"""Where the compressed images of a set lie, for a loader that decodes them itself: in files or in tar shards."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images that are a file each.

    Attributes:
        paths: uint8 [N, L]; a row is a file's absolute path as `os.fsencode` gives it, filled up with zero
            bytes, at least one of them.
    """

    paths: np.ndarray

    @classmethod
    def of(cls, paths: Sequence[str | Path]) -> "ImageFiles":
        """From paths; relative ones start at the working folder. Links and `..` stay as they are."""
        here = os.fsencode(os.getcwd())
        names = [os.path.join(here, os.fsencode(path)) for path in paths]
        length = 1 + max(map(len, names), default=0)
        return cls(np.array(names, dtype=f"S{length}").view(np.uint8).reshape(len(names), length))

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: np.ndarray) -> "ImageFiles":
        """The files at `indices` (int64 [M]), in that order."""
        return ImageFiles(self.paths[indices])


@dataclass(frozen=True, eq=False)
class ShardMembers:
    """Images that are members of uncompressed tar files.

    Attributes:
        shards: the tar files' absolute paths.
        shard: int32 [N], place in `shards` of the one that holds image n.
        offset: int64 [N], where in that file its first byte lies.
        size: int64 [N], in bytes.
    """

    shards: tuple[Path, ...]
    shard: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    _maps: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.shard)

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the maps, which would be pickled as copies of the shards."""
        return ShardMembers, (self.shards, self.shard, self.offset, self.size)

    def take(self, indices: np.ndarray) -> "ShardMembers":
        """The members at `indices` (int64 [M]), in that order."""
        return replace(self, shard=self.shard[indices], offset=self.offset[indices], size=self.size[indices])

    def read(self, indices: np.ndarray) -> list[np.ndarray]:
        """Compressed bytes of the members at `indices` (int64 [M]), as read-only uint8 [size] each.

        They are views into memory maps of the shards: a shard is mapped when it is first needed and nothing is
        copied. A fork inherits the maps, which have no position in the file that two processes could share.

        Raises:
            OSError: a shard cannot be opened any more.
        """
        places = (column[indices].tolist() for column in (self.shard, self.offset, self.size))
        return [self._map(shard)[offset : offset + size] for shard, offset, size in zip(*places, strict=True)]

    def _map(self, shard: int) -> np.ndarray:
        if shard not in self._maps:
            # As a plain array: slicing one takes a fraction of the time that slicing np.memmap does.
            self._maps[shard] = np.memmap(self.shards[shard], mode="r").view(np.ndarray)
        return self._maps[shard]


EncodedImages = ImageFiles | ShardMembers
