"""Training steps and the evaluation as CUDA graphs: the host only starts them, and waits for nothing inside an epoch.

Whatever differs from step to step lies on the device, where the graph finds it by a counter that it advances itself.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from fastcifar.evaluation.evaluate import logits_on_device
from fastcifar.loader.contract import Loader
from fastcifar.loader.resident import ResidentLoader
from fastcifar.runtime import Runtime
from fastcifar.training.averaging import WeightAverage
from fastcifar.training.muon import MuonAndSGD, averaging_part
from fastcifar.training.optimizer import set_learning_rate
from fastcifar.training.step import TrainingStep
from fastcifar_kernels.sgd_ema.optimizer import SGDEMA

REHEARSALS = 3
"""Calls before a capture, in which kernels are compiled and chosen, and what is kept between steps is allocated."""

Capture = Callable[[Callable[[], object]], Callable[[], object]]
"""Takes work without arguments and results; what it gives back repeats that work on the same tensors, as they then are.

The work runs a few times on the way.
"""


class CudaGraphs:
    """A `Capture` on the current GPU; the graphs share one pool of memory, since only one runs at a time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], object]) -> Callable[[], object]:
        current, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            for _ in range(REHEARSALS):
                work()
        current.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            work()
        return graph.replay


class CapturedSteps:
    """`TrainingStep` with the making of its batch, a graph for each image size.

    Model, averages and optimizer are left as they were. Loading a state into the optimizer makes the graphs worthless.

    Args:
        step: without a gradient scaler; its optimizer reads its settings from the device.
        settings: of every step of the run, float32 [epochs, steps an epoch, settings], from `settings_of_run`.
        losses: receives each step's loss, [steps an epoch].
        correct: an int64 scalar to which each step adds.
        image_sizes: sides in pixels.
    """

    def __init__(
        self,
        step: TrainingStep,
        loader: ResidentLoader,
        settings: Tensor,
        losses: Tensor,
        correct: Tensor,
        image_sizes: Iterable[int],
        capture: Capture,
    ) -> None:
        self._step, self._loader, self._losses, self._correct = step, loader, losses, correct
        device = losses.device
        self._settings_of_run = settings.to(device)
        self._settings = torch.zeros_like(self._settings_of_run[0])
        self._order = torch.zeros(len(loader), loader.batch_size, dtype=torch.int64, device=device)
        self._epoch = torch.zeros((), dtype=torch.int64, device=device)
        self._steps_done = torch.zeros(1, dtype=torch.int64, device=device)
        self._row = torch.zeros_like(self._settings[0])
        optimizer = captured_optimizer(step)
        optimizer.read_settings_from(self._row)
        try:
            with left_as_it_was(step, losses, correct):
                self._replays = {size: capture(partial(self._work, size)) for size in image_sizes}
        except BaseException:
            optimizer.read_settings_from(None)
            raise

    def epoch(self) -> Iterator[None]:
        """Start the steps that remain of the loader's epoch, one each time that the iterator is advanced."""
        self._order.copy_(self._loader.begin())
        where = self._loader.state_dict()
        self._settings.copy_(self._settings_of_run[where["epoch"]])
        self._epoch.fill_(where["epoch"])
        self._steps_done.fill_(where["batch"])
        replay, average = self._replays[where["image_size"]], self._step.average
        for _ in range(where["batch"], len(self._loader)):
            replay()
            self._loader.made_batch()
            if average is not None:
                average.updates += 1
            yield

    def _work(self, image_size: int) -> None:
        here = self._steps_done.remainder(len(self._order))  # rehearsals may go beyond a short epoch
        self._row.copy_(self._settings.index_select(0, here)[0])
        images, labels = self._loader.make_batch(self._order.index_select(0, here)[0], self._epoch, image_size)
        loss, correct = self._step.train(images, labels)
        self._losses.index_copy_(0, here, loss[None])
        self._correct.add_(correct)
        self._steps_done.add_(1)


class CapturedEvaluation:
    """`predict_logits` of a model and a loader whose images and their order stay: the whole pass is one graph."""

    def __init__(self, model: nn.Module, loader: Loader, runtime: Runtime, capture: Capture) -> None:
        logits, labels = logits_on_device(model, loader, runtime)
        self._labels = labels.cpu()
        self._logits = torch.empty_like(logits)
        self._replay = capture(lambda: self._logits.copy_(logits_on_device(model, loader, runtime)[0]))

    def __call__(self) -> tuple[Tensor, Tensor]:
        """Logits and labels on the CPU, of the weights as they are now."""
        self._replay()
        return self._logits.cpu(), self._labels


@dataclass(frozen=True)
class Captured:
    """What of a run goes through graphs."""

    steps: CapturedSteps
    evaluation: CapturedEvaluation


def captured_optimizer(step: TrainingStep) -> SGDEMA | MuonAndSGD:
    """The step's optimizer, which must be one that reads its settings from the device."""
    assert isinstance(step.optimizer, SGDEMA | MuonAndSGD), "torch's own takes its learning rate from the host"
    return step.optimizer


@contextmanager
def left_as_it_was(step: TrainingStep, *others: Tensor) -> Iterator[None]:
    """What a capture's rehearsals change is put back: model, averages, optimizer, and the other tensors."""
    modules = [step.model] if step.average is None else [step.model, step.average.module]
    changed = [*others, *(tensor for module in modules for tensor in module.state_dict().values())]
    for part in _parts(captured_optimizer(step)):
        changed += [state["momentum_buffer"] for state in part.state.values()]
    before = [tensor.clone() for tensor in changed]
    try:
        yield
    finally:
        step.optimizer.zero_grad(set_to_none=True)
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)


def settings_of_run(
    optimizer: SGDEMA | MuonAndSGD,
    average: WeightAverage | None,
    rates: Iterable[float],
    epochs: int,
) -> Tensor:
    """What the optimizer reads at every step of a run: float32 [epochs, steps an epoch, settings], on the CPU.

    Args:
        rates: the learning rate of each step, as `set_learning_rate` takes it.
    """
    sgd, rows = averaging_part(optimizer), []
    assert sgd is not None
    for number, rate in enumerate(rates, 1):
        set_learning_rate(optimizer, rate)
        if average is not None:
            sgd.share = average.share_of(number)
        rows.append(optimizer.settings_row())
    return torch.tensor(rows, dtype=torch.float32).unflatten(0, (epochs, -1))


def _parts(optimizer: SGDEMA | MuonAndSGD) -> list[torch.optim.Optimizer]:
    return [optimizer.muon, optimizer.sgd] if isinstance(optimizer, MuonAndSGD) else [optimizer]
