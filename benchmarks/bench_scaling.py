"""How cost grows with the batch, the images' side, the network's width, threads, worker processes, and the data set.

The subjects of a group are numbers along one axis and do the same number of images; `scaling_plot.py` draws them.
`bench_memory.py` has the memory.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from loaders import BATCH, PAUSE_S, STORED_BYTES, beside_each_other, ours
from measure import Measure, agree
from noise import noise
from peers import plain_network
from record import Work
from torch import Tensor
from training_step import Pair, losses, our_step, pair, plain_step, step_work

from fastcifar.augment.draws import sample_draws
from fastcifar.augment.policy import AugmentPolicy
from fastcifar.augment.reference import apply_draws
from fastcifar.dataset.image_set import ImageSet
from fastcifar.loader.order import epoch_order
from fastcifar.loader.resident import ResidentLoader
from fastcifar.loader.workers import WorkersLoader
from fastcifar.model.c1c2c3c40 import C1C2C3C40
from fastcifar.model.layers import Chain, Convolution, DepthwiseSeparable, Stem

MODEL, STEP_BATCH = "c1c2c3c40-speed", 256
SPEED = pair(MODEL)
IMAGES = 1024
"""Of a turn of training steps."""
BATCHES, SHORT_BATCHES = (32, 64, 128, 256, 512, 1024), (64, 256)
SIZES, SHORT_SIZES = (8, 12, 16, 20, 24, 32, 48, 64), (16, 32)
WIDTHS, SHORT_WIDTHS = (0.5, 1.0, 1.5, 2.0), (0.5, 1.0)
SETS, SHORT_SETS = (10_240, 102_400, 1_024_000), (2_048, 20_480)
"""Whole batches, and the largest is a multiple of the others."""
WORKERS, SHORT_WORKERS = (1, 2, 4), (1, 2)
TOLERANCE = 1e-4
"""Of the losses of three steps."""
ROUNDING = 1e-5
"""Of a batch's norm."""
SETTINGS: dict[str, Any] = {"policy": AugmentPolicy(), "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def bench_batch_size(measure: Measure, short: bool) -> None:
    steps = {f"{batch}": our_step(SPEED, 32, batch) for batch in (SHORT_BATCHES if short else BATCHES)}
    measure(
        f"step by batch: {MODEL}, 32 pixels",
        {batch: repeated(step, IMAGES // int(batch)) for batch, step in steps.items()},
        baseline=f"{STEP_BATCH}",
        check=lambda: [same_losses(step, plain_step(SPEED, 32, int(batch))) for batch, step in steps.items()],
        work={batch: step_work(SPEED, 32, IMAGES) for batch in steps},
        axis="images in a batch",
    )


def bench_image_size(measure: Measure, short: bool) -> None:
    steps = {f"{size}": our_step(SPEED, size, STEP_BATCH) for size in (SHORT_SIZES if short else SIZES)}
    measure(
        f"step by image size: {MODEL}, batch {STEP_BATCH}",
        steps,
        baseline="32",
        check=lambda: [same_losses(step, plain_step(SPEED, int(size), STEP_BATCH)) for size, step in steps.items()],
        work={size: step_work(SPEED, int(size), STEP_BATCH) for size in steps},
        axis="pixels a side",
    )


def bench_width(measure: Measure, short: bool) -> None:
    factors = SHORT_WIDTHS if short else WIDTHS
    pairs = {f"{factor:g}": wide(factor) for factor in factors}
    steps = {factor: our_step(networks, 32, STEP_BATCH) for factor, networks in pairs.items()}
    measure(
        f"step by width: {MODEL}, 32 pixels, batch {STEP_BATCH}",
        steps,
        baseline="1",
        check=lambda: [same_losses(steps[one], plain_step(pairs[one], 32, STEP_BATCH)) for one in steps],
        work={factor: step_work(networks, 32, STEP_BATCH) for factor, networks in pairs.items()},
        axis="width, times the speed network's",
    )


@pytest.mark.parametrize("size", [16, 32])
def bench_threads(measure: Measure, size: int) -> None:
    """Threads of the CPU, up to as many as a run would take."""
    most = torch.get_num_threads()
    counts = sorted({1, 2, 4, most} & set(range(most + 1)))

    def on(threads: int) -> Callable[[], None]:
        step = our_step(SPEED, size, STEP_BATCH)

        def run() -> None:
            torch.set_num_threads(threads)
            try:
                step()
            finally:
                torch.set_num_threads(most)

        return run

    measure(
        f"step by threads: {MODEL}, {size} pixels, batch {STEP_BATCH}",
        {f"{threads}": on(threads) for threads in counts},
        baseline="1",
        check=lambda: same_losses(our_step(SPEED, size, STEP_BATCH), plain_step(SPEED, size, STEP_BATCH)),
        work=Work("images/s", STEP_BATCH),  # without a ceiling, which would be that of all threads
        axis="threads",
    )


def bench_worker_processes(measure: Measure, short: bool) -> None:
    train = noise(SHORT_SETS[0] if short else SETS[0])
    counts = SHORT_WORKERS if short else WORKERS
    beside_each_other(
        measure,
        f"loader by processes: workers, 32 pixels, batch {BATCH}",
        [(f"{count}", partial(ours, WorkersLoader, train, SETTINGS, device="cpu", workers=count)) for count in counts],
        baseline="1",
        alike=[f"{count}" for count in counts],
        images=len(train) // BATCH * BATCH,
        size=32,
        device="cpu",
        axis="worker processes",
    )


def bench_number_of_images(measure: Measure, short: bool) -> None:
    """Whole epochs at 8 pixels, as many of the smaller sets as hold the images of the largest.

    The smaller the batches' images, the more the gathering of the stored ones counts.
    """
    sets = {f"{count}": noise(count) for count in (SHORT_SETS if short else SETS)}
    largest, size = max(map(len, sets.values())), 8
    epochs = {name: ours(ResidentLoader, train, SETTINGS, device="cpu", size=size) for name, train in sets.items()}

    def run(name: str) -> None:
        for _ in range(largest // len(sets[name])):
            for _ in epochs[name]():
                pass

    def check() -> None:
        for name, train in sets.items():
            first, labels = next(iter(epochs[name]()))
            expected, order = first_batch(train, size)
            assert labels.tolist() == train.labels[order.numpy()].tolist()
            agree(
                {"reference": lambda expected=expected: expected, name: lambda first=first: first},
                "reference",
                ROUNDING,
            )()

    measure(
        f"loader by images: resident, {size} pixels, batch {BATCH}",
        {name: partial(run, name) for name in sets},
        baseline=next(iter(sets)),
        check=check,
        work=Work("images/s", largest, bytes_moved=largest * (STORED_BYTES + 4 * 3 * size**2)),
        axis="images in the data set",
        pause_s=PAUSE_S,
    )


def first_batch(train: ImageSet, size: int) -> tuple[Tensor, Tensor]:
    """By the reference: the first batch's images, and which they are."""
    order = epoch_order(len(train), 0, 0, torch.device("cpu"))[:BATCH]
    draws = sample_draws(SETTINGS["policy"], 0, 0, order)
    images = torch.from_numpy(train.images).index_select(0, order)
    mean_and_std = SETTINGS["mean"], SETTINGS["std"]
    return apply_draws(images, draws, SETTINGS["policy"], *mean_and_std, size, torch.float32), order


def wide(factor: float) -> Pair:
    """The speed network with so many times the channels."""
    widths = tuple(int(factor * width) for width in plain_network.SPEED_WIDTHS)
    stem, c1, inner, c2, last = widths

    def ours() -> C1C2C3C40:
        return C1C2C3C40(
            stem=Stem(stem),
            c1=Convolution(stem, c1, stride=2),
            c2=Chain(Convolution(c1, inner), Convolution(inner, c2, stride=2)),
            c3=Chain(Convolution(c2, last), DepthwiseSeparable(last, last, stride=2)),
            c4=DepthwiseSeparable(last, last, dilation=2, residual=True),
            width=last,
            classes=10,
        )

    return Pair(ours, partial(plain_network.speed, widths))


def repeated(step: Callable[[], object], times: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(times):
            step()

    return run


def same_losses(own: Callable[[], Tensor], plain: Callable[[], Tensor]) -> None:
    """Ours and a plain script's, over three steps."""
    agree({"plain": losses(plain), "ours": losses(own)}, "plain", TOLERANCE)()
