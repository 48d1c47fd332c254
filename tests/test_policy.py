"""The augmentation policy: its ranges, its identity, and that it is plain data."""

import dataclasses
import subprocess
import sys
import tomllib

import pytest

from fastcifar.augment.policy import IDENTITY, AugmentPolicy, dropout_fill
from fastcifar.errors import UsageError


def test_a_recipe_section_is_the_policy():
    section = tomllib.loads('[augment]\nflip = 1\nrotate_degrees = 45.0\nborder = "constant"\ndropout_size = 8\n')
    policy = AugmentPolicy(**section["augment"])
    assert (policy.flip, policy.rotate_degrees, policy.border, policy.dropout_size) == (
        1,
        45.0,
        "constant",
        8,
    )
    assert policy.affine == AugmentPolicy().affine


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("flip", 1.01, "0 to 1"),
        ("affine", -0.1, "0 to 1"),
        ("dropout", float("nan"), "0 to 1"),
        ("gray", True, "0 to 1"),
        ("gray", "0.5", "0 to 1"),
        ("rotate_degrees", 181, "0 to 180"),
        ("rotate_degrees", float("inf"), "0 to 180"),
        ("shift", 1.5, "0 to 1"),
        ("scale", 1.0, "0 to 0.9"),
        ("dropout_size", 0, "1 to 32"),
        ("dropout_size", 33, "1 to 32"),
        ("dropout_size", 16.5, "1 to 32"),
        ("border", "reflect", "reflect-101"),
        ("affine_law", "albumentations", "albumentations-2"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(key, value, allowed):
    with pytest.raises(UsageError) as refused:
        AugmentPolicy(**{key: value})
    assert f"augment.{key}" in refused.value.what
    assert allowed in refused.value.hint


def test_only_a_policy_without_coins_is_the_identity():
    assert IDENTITY.is_identity
    assert not AugmentPolicy().is_identity
    for key in ("flip", "affine", "dropout", "gray"):
        assert not dataclasses.replace(IDENTITY, **{key: 0.01}).is_identity


def test_the_fill_is_cut_to_whole_levels():
    cifar10_levels = (125.307, 122.961, 113.8575)
    red, green, blue = (level / 255 for level in cifar10_levels)
    assert dropout_fill((red, green, blue)) == (125, 122, 113)
    assert dropout_fill((0.0, 1.0, 0.999)) == (0, 255, 254)


def test_the_policy_needs_no_array_library():
    check = "import sys, fastcifar.augment.policy; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
