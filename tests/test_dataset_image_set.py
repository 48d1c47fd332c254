"""Images and labels in memory, and the stratified hold-out."""

import math
from dataclasses import replace

import numpy as np
import pytest
from fake_cifar10 import fake_dataset
from hypothesis import example, given
from hypothesis import strategies as st

from fastcifar.dataset.image_set import ImageSet, split_holdout, stratified_indices
from fastcifar.errors import UsageError


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((2, 3, 32, 32), np.uint8), np.zeros(2, np.int64)),
        (np.zeros((2, 32, 32, 3), np.float32), np.zeros(2, np.int64)),
        (np.zeros((2, 3, 32, 32), np.uint8).transpose(0, 2, 3, 1), np.zeros(2, np.int64)),
        (np.zeros((2, 32, 32, 3), np.uint8), np.zeros(2, np.int32)),
        (np.zeros((2, 32, 32, 3), np.uint8), np.zeros(3, np.int64)),
    ],
)
def test_image_set_refuses_other_shapes_and_dtypes(images, labels):
    with pytest.raises(ValueError, match="not"):
        ImageSet(images, labels)


def test_only_cifar10_is_called_so():
    dataset = fake_dataset()
    assert dataset.title == "CIFAR-10"
    assert replace(dataset, name="shapes10").title == "shapes10 (not CIFAR-10)"


@given(st.lists(st.integers(0, 6), min_size=1, max_size=200), st.integers(0, 200))
@example([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 4, 4, 4], 2)
def test_every_class_has_its_share_rounded(labels, count):
    labels = np.array(labels)
    count = min(count, len(labels))
    chosen = stratified_indices(labels, count)
    assert len(np.unique(chosen)) == count
    for label in np.unique(labels):
        share = count * (labels == label).sum() / len(labels)
        assert math.floor(share) <= (labels[chosen] == label).sum() <= math.ceil(share)


def test_first_images_are_chosen_unless_told_otherwise():
    labels = np.array([0, 0, 1, 0, 1, 1])
    np.testing.assert_array_equal(stratified_indices(labels, 4), [0, 1, 2, 4])
    np.testing.assert_array_equal(stratified_indices(labels, 2, np.array([6, 5, 4, 3, 2, 1])), [3, 5])


def test_holdout_splits_the_training_set_and_nothing_else():
    dataset = fake_dataset()
    held = split_holdout(dataset, 30, seed=3)
    assert held.test.class_counts(10) == [3] * 10
    assert held.train.class_counts(10) == [7] * 10
    both = {image.tobytes() for part in (held.train, held.test) for image in part.images}
    assert both == {image.tobytes() for image in dataset.train.images}
    assert held.name == "cifar10"
    assert "30 training images held out" in held.source


def test_holdout_keeps_images_with_their_labels():
    dataset = fake_dataset()
    label_of = {image.tobytes(): label for image, label in zip(dataset.train.images, dataset.train.labels, strict=True)}
    held = split_holdout(dataset, 30)
    for part in (held.train, held.test):
        assert [label_of[image.tobytes()] for image in part.images] == part.labels.tolist()


def test_holdout_depends_on_the_seed_alone():
    dataset = fake_dataset()
    first, again, other = (split_holdout(dataset, 20, seed).test.images for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("count", [-1, 0, 9, 91, 100, 5000])
def test_holdout_leaves_images_on_both_sides(count):
    with pytest.raises(UsageError, match="choose between 10 and 90"):
        split_holdout(fake_dataset(), count)


def test_holdout_of_a_lopsided_set_leaves_no_class_out():
    dataset = fake_dataset()
    lopsided = np.flatnonzero((dataset.train.labels > 0) | (np.arange(100) == np.argmin(dataset.train.labels)))
    with pytest.raises(UsageError, match="leaves a class without images"):
        split_holdout(replace(dataset, train=dataset.train.take(lopsided)), 30)
