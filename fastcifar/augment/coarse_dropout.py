"""CoarseDropout's two spellings of the same arguments: the one of albumentations 1.x and the one of 2.x."""

from typing import Any

from fastcifar.errors import UsageError

OLD_RANGES = {
    "num_holes_range": ("min_holes", "max_holes"),
    "hole_height_range": ("min_height", "max_height"),
    "hole_width_range": ("min_width", "max_width"),
}
OLD_NAMES = {"fill_value": "fill", "mask_fill_value": "fill_mask"}
NEW_NAMES = (*OLD_RANGES, *OLD_NAMES.values(), "p")
OLD_DEFAULT = 8
"""Of max_holes, max_height and max_width in albumentations 1.x."""


def coarse_dropout_arguments(**given: Any) -> dict[str, Any]:
    """Arguments of CoarseDropout in either spelling, in that of albumentations 2.

    albumentations 2.0.8 ignores the old names with a warning and then cuts one or two small black holes; here none
    is ignored. As in 1.x, a minimum that is not given equals the maximum, a maximum that is not given is 8, and
    `always_apply=True` means p=1.

    Raises:
        UsageError: an unknown name, both spellings of one argument, or a fill that looks like a fraction of 1, which
            on images of 0..255 is black.
    """
    old_names = {*OLD_NAMES, "always_apply", *(name for pair in OLD_RANGES.values() for name in pair)}
    unknown = sorted(given.keys() - old_names - set(NEW_NAMES))
    if unknown:
        raise UsageError(f"CoarseDropout takes no {', '.join(unknown)}", f"it takes {', '.join(NEW_NAMES)}")
    arguments = {name: value for name, value in given.items() if name in NEW_NAMES}

    def add(name: str, value: Any, spelled: str) -> None:
        if name in arguments:
            raise UsageError(f"CoarseDropout was given both {spelled} and {name}", "keep one of them")
        arguments[name] = value

    if given.keys() & {name for pair in OLD_RANGES.values() for name in pair}:
        for name, (low, high) in OLD_RANGES.items():
            if name in given and not given.keys() & {low, high}:
                continue
            largest = given.get(high, OLD_DEFAULT)
            smallest = given.get(low)
            add(name, (largest if smallest is None else smallest, largest), high)
    for old, name in OLD_NAMES.items():
        if old in given:
            add(name, given[old], old)
    if given.get("always_apply"):
        add("p", 1.0, "always_apply")
    _refuse_fraction(arguments.get("fill", 0))
    return arguments


def _refuse_fraction(fill: Any) -> None:
    if fill is None or isinstance(fill, str):
        return
    levels = [float(level) for level in (fill if hasattr(fill, "__iter__") else [fill])]
    if any(0 < level < 1 for level in levels) and max(levels) <= 1:
        scaled = ", ".join(str(int(255 * level)) for level in levels)
        raise UsageError(f"a CoarseDropout fill of {fill} is black on images of 0..255", f"use ({scaled})")
