"""WebDataset shards: `train-000000.tar`, ... and `test-000000.tar`, ... in a folder, perhaps with a common prefix.

The convention is that of the webdataset package: a sample is the members of an uncompressed tar file that
follow each other and share their name up to the first dot. Here it needs a 32x32 picture (`.png`, `.jpg` or
`.jpeg`) and a label in decimal digits (`.cls`); other members are left alone. `classes.txt` beside the shards
names the classes, one a line. `val`, `valid` or `validation` stands in for `test` where that is missing, and
is then the split that is evaluated on.
"""

import re
import tarfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastcifar.dataset.cifar10 import CLASSES, honest_name
from fastcifar.dataset.encoded import ShardMembers
from fastcifar.dataset.folder import TEST_NAMES, evaluated_note
from fastcifar.dataset.image_set import IMAGE_SHAPE, Dataset, ImageSet
from fastcifar.dataset.picture import SUFFIXES, decode_picture
from fastcifar.errors import DataError

CLASSES_FILE = "classes.txt"
IMAGE_SUFFIXES = tuple(suffix.removeprefix(".") for suffix in SUFFIXES)
MAX_DIGITS = 9
"""A label of more is none."""

END_OF_TAR = bytes(tarfile.BLOCKSIZE)

_SHARD = re.compile(rf"((?!\.)(?:.*[-_.])?)(train|{'|'.join(TEST_NAMES)})[-_].*\.tar")
_MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)")


def find_shards(path: Path) -> dict[tuple[str, str], list[Path]]:
    """Shards in a folder by their prefix ("cifar10-" or the like) and split; empty where there are none."""
    if not path.is_dir():
        return {}
    found: dict[tuple[str, str], list[Path]] = {}
    for file in sorted(path.iterdir()):
        if (match := _SHARD.fullmatch(file.name)) and file.is_file():
            found.setdefault((match[1], match[2]), []).append(file)
    return found


class _Member(NamedTuple):
    """A file inside shard number `shard`; `name` says which, with the shard's own name before it."""

    name: str
    shard: int
    offset: int
    size: int


def read_webdataset(path: Path) -> Dataset:
    """Read the shards in a folder, by name and each from its start to its end.

    Without `classes.txt` the classes are CIFAR-10's where the labels show all of it, else numbers.

    Raises:
        DataError: a split or a class is missing, a shard is damaged, or a sample lacks its image or label or has
            a wrong one; names shard and member.
    """
    train_shards, test_shards, test_name = _splits(path)
    names = _class_names(path / CLASSES_FILE)
    train, test = (_read_split(shards, len(names) if names else None) for shards in (train_shards, test_shards))
    count = len(names) if names else 1 + max(int(images.labels.max(initial=0)) for images in (train, test))
    for split, images in (("train", train), (test_name, test)):
        _check_every_class(images.labels, count, f"{path}: no {split} sample")
    numbers = tuple(str(label) for label in range(count))
    classes = names or (CLASSES if count == len(CLASSES) else numbers)
    name = honest_name(train, test, classes, path.resolve().name)
    if not names and name != "cifar10":
        classes = numbers
    return Dataset(name, train, test, classes, f"webdataset, {path}{evaluated_note(test_name)}")


def _splits(path: Path) -> tuple[list[Path], list[Path], str]:
    """Training shards, test shards, and what the latter are called."""
    found = find_shards(path)
    prefixes = sorted({prefix for prefix, _ in found})
    if len(prefixes) > 1:
        raise DataError(
            f"{path}: holds shards of several sets, {prefixes[0]}* and {prefixes[1]}*", "give each a folder of its own"
        )
    by_split = {split: shards for (_, split), shards in found.items()}
    test_name = next((name for name in TEST_NAMES if name in by_split), "test")
    for name in ("train", test_name):
        if name not in by_split:
            raise DataError(f"{path}: holds no {prefixes[0]}{name}-*.tar", "shards of both splits are needed")
    return by_split["train"], by_split[test_name], test_name


def _class_names(file: Path) -> tuple[str, ...] | None:
    if not file.is_file():
        return None
    try:
        names = tuple(line.strip() for line in file.read_text(encoding="utf-8").rstrip().splitlines())
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{file}: cannot be read as text", "one class name a line is expected") from None
    if len(set(names)) < max(len(names), 2) or "" in names:
        raise DataError(f"{file}: names fewer than two classes, or one twice", "one class name a line is expected")
    return names


def _check_every_class(labels: np.ndarray, classes: int, problem: str) -> None:
    present = np.unique(labels)  # no counts: a stray label may be in the hundreds of millions
    gaps = np.flatnonzero(present != np.arange(len(present)))
    missing = int(gaps[0]) if len(gaps) else len(present)
    if missing < max(classes, 2):
        raise DataError(f"{problem} has label {missing}", "both splits need all classes, two or more, counted from 0")


def _read_split(shards: Sequence[Path], classes: int | None) -> ImageSet:
    samples = [sample for number, shard in enumerate(shards) for sample in _samples(number, shard)]
    images, labels = ([sample[part] for sample in samples] for part in (0, 1))
    encoded, everything = _located(shards, images), np.arange(len(samples))
    values = [
        _label(content, member.name, classes)
        for content, member in zip(_located(shards, labels).read(everything), labels, strict=True)
    ]
    pixels = np.empty((len(samples), *IMAGE_SHAPE), dtype=np.uint8)
    # No threads: from memory, so small a picture decodes in less time than several take to hand over to each other.
    for index, (content, member) in enumerate(zip(encoded.read(everything), images, strict=True)):
        pixels[index] = decode_picture(content.tobytes(), member.name)
    return ImageSet(pixels, np.array(values, dtype=np.int64), encoded)


def _located(shards: Sequence[Path], members: Sequence[_Member]) -> ShardMembers:
    places = np.array([member[1:] for member in members], dtype=np.int64).reshape(-1, 3)
    shard, offset, size = places.T
    return ShardMembers(tuple(path.absolute() for path in shards), shard.astype(np.int32), offset.copy(), size.copy())


def _label(content: np.ndarray, name: str, classes: int | None) -> int:
    digits = content.tobytes().strip() if len(content) <= MAX_DIGITS + 2 else b""  # two for a line end
    if not digits.isdigit():
        raise DataError(f"{name}: holds no label in decimal digits", "write the class as a number from 0 on")
    if classes is not None and int(digits) >= classes:
        raise DataError(
            f"{name}: label {int(digits)} is outside 0 to {classes - 1}",
            f"mend it, or name its class in {CLASSES_FILE}",
        )
    return int(digits)


def _samples(number: int, shard: Path) -> Iterator[tuple[_Member, _Member]]:
    """Image and label of every sample in a shard, in order."""
    matched = ((match, member) for member in _files(shard) if (match := _MEMBER.fullmatch(member.name)))
    for key, group in groupby(matched, lambda pair: pair[0][1]):
        members: dict[str, _Member] = {}
        for match, member in group:
            name, suffix = f"{shard}/{member.name}", match[2].lower()
            if suffix in members:
                raise DataError(f"{name}: is there twice", "each sample needs a name of its own")
            members[suffix] = _Member(name, number, member.offset_data, member.size)
        image = next((members[suffix] for suffix in IMAGE_SUFFIXES if suffix in members), None)
        label = members.get("cls")
        if image is None or label is None:
            missing, suffixes = ("image", IMAGE_SUFFIXES) if image is None else ("label", ("cls",))
            raise DataError(
                f"{shard}/{key}: sample without {missing}",
                f"put {key}.{' or .'.join(suffixes)} right beside the others",
            )
        yield image, label


def _files(shard: Path) -> list[tarfile.TarInfo]:
    """The plain files in a shard.

    tarfile takes a header that is damaged or cut off for the end of the archive, so the end is looked at here.
    """
    members: list[tarfile.TarInfo] = []
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                members.append(member)  # noqa: PERF402 - what was read before a failure is needed then
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != END_OF_TAR:
                raise tarfile.ReadError
    except (tarfile.TarError, EOFError, ValueError):
        where = f"cut off or damaged from {members[-1].name} on" if members else "no uncompressed tar file"
        raise DataError(f"{shard}: {where}", "get a good copy of this shard") from None
    except OSError as error:
        raise DataError(f"{shard}: cannot be read, {error.strerror}", "check the file") from None
    return [member for member in members if member.isreg()]
