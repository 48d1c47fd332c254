"""What a data set is once it is in memory: images, labels, class names, and where they came from."""

from dataclasses import dataclass, replace

import numpy as np

from fastcifar.dataset.encoded import EncodedImages
from fastcifar.errors import UsageError

IMAGE_SHAPE = (32, 32, 3)
"""Height, width, channels (red, green, blue) of every image."""


@dataclass(frozen=True)
class ImageSet:
    """Images with their labels.

    Attributes:
        images: uint8 [N, 32, 32, 3], C-contiguous.
        labels: int64 [N].
        encoded: where the compressed images lie, in the same order; None where the set was stored as arrays.

    Raises:
        ValueError: shapes or dtypes are others. Readers check files first and blame the file.
    """

    images: np.ndarray
    labels: np.ndarray
    encoded: EncodedImages | None = None

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.shape[1:] != IMAGE_SHAPE or not images.flags.c_contiguous:
            raise ValueError(f"images are {images.dtype} {images.shape}, not C-contiguous uint8 [N, 32, 32, 3]")
        if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            raise ValueError(f"labels are {labels.dtype} {labels.shape}, not int64 [{len(images)}]")
        if self.encoded is not None and len(self.encoded) != len(images):
            raise ValueError(f"{len(self.encoded)} compressed images do not match {len(images)} images")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "ImageSet":
        """The images at `indices` (int64 [M]), in that order."""
        encoded = None if self.encoded is None else self.encoded.take(indices)
        return ImageSet(self.images[indices], self.labels[indices], encoded)

    def class_counts(self, classes: int) -> list[int]:
        """Number of images of each of the `classes` classes."""
        return np.bincount(self.labels, minlength=classes).tolist()


@dataclass(frozen=True)
class Dataset:
    """A training and a test set over the same classes.

    Attributes:
        name: "cifar10" (all 60,000 images), "shapes10", or the name of the user's own folder.
        classes: class names; a label is an index into them.
        source: layout and place, e.g. "binary, /data/cifar-10-batches-bin".
    """

    name: str
    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    source: str

    @property
    def title(self) -> str:
        """Name for figures and tables; says so where the set is not CIFAR-10."""
        return "CIFAR-10" if self.name == "cifar10" else f"{self.name} (not CIFAR-10)"


def stratified_indices(labels: np.ndarray, count: int, order: np.ndarray | None = None) -> np.ndarray:
    """Choose `count` images so that every class has its share, rounded up or down.

    Args:
        labels: int64 [N].
        count: how many to choose, at most N.
        order: sortable keys [N]; within a class the smallest are chosen first. None: as they stand.

    Returns:
        int64 [count], ascending.
    """
    size = len(labels)
    counts = np.bincount(labels)
    # Largest remainders: whole shares first, what is left over to the classes that lost most by rounding.
    quota, remainder = np.divmod(count * counts, size)
    quota[np.argsort(-remainder, kind="stable")[: count - quota.sum()]] += 1
    by_class = np.lexsort((np.arange(size) if order is None else order, labels))
    starts = np.cumsum(counts) - counts
    rank = np.arange(size) - starts[labels[by_class]]
    return np.sort(by_class[rank < quota[labels[by_class]]])


def split_holdout(dataset: Dataset, count: int, seed: int = 0) -> Dataset:
    """Put `count` training images aside as the new test set, to tune on without touching the real one.

    Stratified by class and decided by `seed` alone (PCG64's raw stream, the same in every NumPy version).

    Raises:
        UsageError: `count` leaves a side without an image of every class.
    """
    labels = dataset.train.labels
    classes = len(dataset.classes)
    largest = len(labels) - classes
    problem = UsageError(
        f"a hold-out of {count:,} images out of {len(labels):,} leaves a class without images",
        f"choose between {classes:,} and {largest:,}, such that every class keeps some",
    )
    if not classes <= count <= largest:
        raise problem
    keys = np.random.PCG64(seed).random_raw(len(labels))
    held_out = stratified_indices(labels, count, keys)
    kept = np.setdiff1d(np.arange(len(labels)), held_out, assume_unique=True)
    train, test = dataset.train.take(kept), dataset.train.take(held_out)
    if 0 in train.class_counts(classes) + test.class_counts(classes):
        raise problem
    source = f"{dataset.source}, {count:,} training images held out as test set"
    return replace(dataset, train=train, test=test, source=source)
