"""CoarseDropout's arguments in both spellings: the same holes, none ignored, and what cannot be meant refused."""

import numpy as np
import pytest

from fastcifar.augment.coarse_dropout import coarse_dropout_arguments
from fastcifar.errors import UsageError

NEW = {"num_holes_range": (1, 1), "hole_height_range": (16, 16), "hole_width_range": (16, 16), "fill": (125, 123, 114)}
OLD = {
    "max_holes": 1,
    "max_height": 16,
    "max_width": 16,
    "min_holes": 1,
    "min_height": 16,
    "min_width": 16,
    "fill_value": (125, 123, 114),
}


def test_both_spellings_mean_the_same():
    assert coarse_dropout_arguments(**NEW) == NEW
    assert coarse_dropout_arguments(**OLD) == NEW
    assert coarse_dropout_arguments(**OLD, mask_fill_value=None, always_apply=True) == NEW | {
        "fill_mask": None,
        "p": 1.0,
    }


def test_minimum_and_maximum_follow_the_old_rules():
    found = coarse_dropout_arguments(max_holes=3, min_height=2, max_width=5, min_width=None)
    assert found == {"num_holes_range": (3, 3), "hole_height_range": (2, 8), "hole_width_range": (5, 5)}
    mixed = coarse_dropout_arguments(max_holes=2, hole_height_range=(4, 4), hole_width_range=(4, 6), fill=0)
    assert mixed == {"num_holes_range": (2, 2), "hole_height_range": (4, 4), "hole_width_range": (4, 6), "fill": 0}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"holes": 1}, "holes"),
        ({"fill": 0, "fill_value": 0}, "fill_value"),
        ({"max_height": 16, "hole_height_range": (16, 16)}, "max_height"),
        ({"p": 0.5, "always_apply": True}, "always_apply"),
    ],
)
def test_an_argument_that_is_unknown_or_given_twice_is_refused_by_name(arguments, named):
    with pytest.raises(UsageError, match=named):
        coarse_dropout_arguments(**arguments)


@pytest.mark.parametrize("fill", [(0.4914, 0.4822, 0.4465), [0.5, 0.0, 0.0], 0.5, np.array([0.4914, 0.4822, 0.4465])])
def test_a_fill_that_is_a_fraction_of_one_is_refused(fill):
    with pytest.raises(UsageError, match="black") as refused:
        coarse_dropout_arguments(fill_value=fill)
    assert "12" in refused.value.hint  # 255 times as much


@pytest.mark.parametrize("fill", [0, 1, (0, 0, 0), (125.307, 122.961, 113.8575), "random", None])
def test_other_fills_are_left_as_they_are(fill):
    assert coarse_dropout_arguments(fill=fill) == {"fill": fill}


def test_the_old_spelling_cuts_the_hole_it_says():
    pytest.importorskip("albumentations", reason="albumentations is not installed: pip install '.[parity]'")
    from fastcifar.augment.albumentations_backend import coarse_dropout

    transform = coarse_dropout(**OLD, always_apply=True)
    transform.set_random_seed(3)
    images = np.full((50, 32, 32, 3), 7, dtype=np.uint8)
    for image in images:
        changed = (transform(image=image)["image"] == (125, 123, 114)).all(axis=2)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        assert changed.sum() == 256
        assert (rows[-1] - rows[0], columns[-1] - columns[0]) == (15, 15)
