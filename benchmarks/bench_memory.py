"""Peak memory of a training process on a CPU: beside a DataLoader's, and as the data set grows to a million images."""

from collections.abc import Callable

import pytest
from measure import Measure, checks_itself
from needs import need_dali
from record import Work
from short_trainings import KINDS, PEER, STORED_BYTES, short_training

IMAGES = 50_000
SETS, SHORT_SETS = (10_000, 1_000_000), (10_000, 20_000)
GROWTH = 0.1
"""Of the images' own bytes: by so much what lies beside them may grow. (An epoch's order is sorted in memory.)"""


def bench_memory(measure: Measure) -> None:
    measure(
        f"peak memory: {IMAGES:,} images, c1c2c3c40-speed, 32 pixels, batch 256",
        {name: lambda kind=kind: short_training(kind, IMAGES)["bytes"] for name, kind in KINDS.items()},
        baseline=PEER,
        check=checks_itself,
        work=Work("MiB"),
        rounds=1,
    )


@pytest.mark.parametrize("kind", ["resident", "workers", "dali"])
def bench_memory_beyond_the_images(measure: Measure, kind: str, short: bool) -> None:
    """What a process takes beside the data set, which lies in memory once, decoded."""
    if kind == "dali":
        need_dali()
    sets = SHORT_SETS if short else SETS

    def beyond(count: int) -> Callable[[], float]:
        return lambda: short_training(kind, count)["bytes"] - count * STORED_BYTES

    record = measure(
        f"peak memory by images, less the images: {kind}, batch 256",
        {f"{count}": beyond(count) for count in sets},
        baseline=f"{sets[0]}",
        check=checks_itself,
        work=Work("MiB"),
        axis="images in the data set",
        rounds=1,
    )
    found = [row["costs"][0] for row in record["subjects"].values()]
    assert max(found) - found[0] < GROWTH * sets[-1] * STORED_BYTES + found[0] / 4, f"{kind}: {found} bytes"
