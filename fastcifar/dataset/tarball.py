"""CIFAR-10's official tarballs, read in memory: nothing is ever unpacked to disk."""

import tarfile
import zlib
from pathlib import Path, PurePosixPath

from fastcifar.dataset.cifar10 import (
    BINARY_FILES,
    GET_A_GOOD_COPY,
    PYTHON_FILES,
    assemble,
    decode_binary,
    decode_python,
)
from fastcifar.dataset.image_set import Dataset
from fastcifar.errors import DataError

MAX_MEMBER_BYTES = 40_000_000
"""Batches have 31 million bytes; a member above this is none, whatever it is called."""


def read_tarball(path: Path) -> Dataset:
    """Read `cifar-10-binary.tar.gz` or `cifar-10-python.tar.gz` (told apart by what is inside).

    Raises:
        DataError: the file is damaged, or not all six batches are in it.
    """
    members = _read_members(path)
    binary = not members.keys().isdisjoint(BINARY_FILES)
    names, decode, layout = (
        (BINARY_FILES, decode_binary, "binary") if binary else (PYTHON_FILES, decode_python, "python")
    )
    missing = [name for name in names if name not in members]
    if missing:
        raise DataError(f"{path}: holds no {missing[0]}, so it is not all of CIFAR-10", GET_A_GOOD_COPY)
    return assemble(names, members.pop, decode, path, f"{layout} tarball")


def _read_members(path: Path) -> dict[str, bytes]:
    """Content of the regular files that are called like batches, up to a complete set of them."""
    members: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r|*") as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                if not member.isreg() or member.size > MAX_MEMBER_BYTES:
                    continue
                if name in BINARY_FILES or name in PYTHON_FILES:
                    stream = tar.extractfile(member)
                    assert stream is not None  # it is a regular file
                    members[name] = stream.read()
                if any(members.keys() >= set(names) for names in (BINARY_FILES, PYTHON_FILES)):
                    break
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path}: damaged or no tarball, {error}", GET_A_GOOD_COPY) from None
    return members
