"""The loop: epochs of steps, evaluation, checkpoints; interruptible and resumable between any two steps."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastcifar.config import Config
from fastcifar.errors import CheckFailedError, DataError
from fastcifar.evaluation.evaluate import predict_logits
from fastcifar.evaluation.metrics import accuracy
from fastcifar.loader.contract import Loader
from fastcifar.loader.resident import ResidentLoader
from fastcifar.runtime import Runtime, synchronize
from fastcifar.training.averaging import WeightAverage
from fastcifar.training.captured import (
    Capture,
    Captured,
    CapturedEvaluation,
    CapturedSteps,
    captured_optimizer,
    settings_of_run,
)
from fastcifar.training.checkpoint import restore, save_resume_state, save_weights
from fastcifar.training.observer import EpochRecord, Observer
from fastcifar.training.optimizer import build_optimizer
from fastcifar.training.profile import PROFILED, SKIPPED, StepProfile
from fastcifar.training.run_log import RunLog
from fastcifar.training.schedule import build_schedule
from fastcifar.training.step import TrainingStep


class Interrupted(Exception):
    """Ctrl-C or SIGTERM arrived; the checkpoint has been written to the run folder that it names."""


@dataclass
class Progress:
    """How far a run has come; kept in the resume state.

    Attributes:
        epochs_done: whole epochs.
        steps_done: optimisation steps of the epoch under way.
        examples: training images seen.
        train_time_s: from the first step to the end of the last epoch or evaluation, whatever lay between.
        step_time_s: the part of it spent in training steps.
        epoch_started_s: train_time_s when the epoch under way began.
        epoch_step_time_s: its time in training steps so far.
        best_accuracy: the highest so far, reached in epoch best_epoch.
        time_to_target_s: train_time_s at the end of the evaluation that reached the target.
    """

    epochs_done: int = 0
    steps_done: int = 0
    examples: int = 0
    train_time_s: float = 0.0
    step_time_s: float = 0.0
    epoch_started_s: float = 0.0
    epoch_step_time_s: float = 0.0
    best_accuracy: float = -1.0
    best_epoch: int = 0
    time_to_target_s: float | None = None


class Trainer:
    """Trains one network with one seed.

    Args:
        runtime: with the choice of an optimizer (`with_optimizer`).
        train_loader, eval_loader: batches on the runtime's device.
        model: on the device, channels_last.
        weights_metadata: stored with every weights file, and what a resumed run must agree with.
    """

    def __init__(
        self,
        config: Config,
        runtime: Runtime,
        model: nn.Module,
        train_loader: Loader,
        eval_loader: Loader,
        observer: Observer,
        weights_metadata: dict[str, Any],
    ) -> None:
        self.config = config
        self.runtime = runtime
        self.model = model
        self.train_loader = train_loader
        self.eval_loader = eval_loader
        self.observer = observer
        self.weights_metadata = weights_metadata
        self.progress = Progress()
        batch_size = config.training.batch_size
        self.schedule = build_schedule(config.schedule, config.optimizer.learning_rate, len(train_loader) * batch_size)
        decay = config.training.ema_decay
        self.average = WeightAverage(model, decay) if decay else None
        optimizer = build_optimizer(model, config.optimizer, runtime.choices["optimizer"].used, self.average)
        self.step = TrainingStep(model, optimizer, self.average, runtime, config.training.label_smoothing)
        self.losses = torch.zeros(len(train_loader), device=runtime.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=runtime.device)
        self.interrupt_requested = False
        self.last_predictions: tuple[Tensor, Tensor] | None = None
        self.clock_zero = 0.0
        self.profile: StepProfile | None = None
        self.captured: Captured | None = None

    @property
    def evaluated_model(self) -> nn.Module:
        """The averaged weights where they are kept, else the raw ones."""
        return self.model if self.average is None else self.average.module

    @property
    def target_reached(self) -> bool:
        return self.progress.time_to_target_s is not None

    def fit(self, run_log: RunLog, more_follow: bool = False) -> Progress:
        """Train until the schedule ends or the target is reached.

        Args:
            run_log: receives checkpoints and a line an epoch.
            more_follow: an interrupt in the last epoch counts too, so that the next run does not start.

        Raises:
            CheckFailedError: the loss stopped being finite.
            Interrupted: SIGINT or SIGTERM arrived.
        """
        self.run_log = run_log
        if self.config.runtime.profile:
            self.profile = StepProfile(run_log.folder / "profile", self.runtime.device)
        with self._interruptible():
            self.clock_zero = time.perf_counter() - self.progress.train_time_s
            try:
                while self.progress.epochs_done < self.config.schedule.epochs and not self.target_reached:
                    self._train_epoch()
                    self._finish_epoch()
            finally:
                if self.profile:
                    self.profile.abandon()
                    self.observer.warning(f"no profile: the run ended before its step {SKIPPED + PROFILED}")
        if self.interrupt_requested and more_follow:
            raise Interrupted(run_log.folder)
        return self.progress

    def predictions(self) -> tuple[Tensor, Tensor]:
        """Logits and labels of the last evaluation, made now where a resumed run had nothing left to train."""
        if self.last_predictions is None:
            self.last_predictions = self._predict()
        return self.last_predictions

    def warm_up(self) -> float:
        """Compile for every image size of the run; the model is left as it was. Returns seconds."""
        started = time.perf_counter()
        before = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        first_epochs = {self.config.schedule.image_size(e): e for e in reversed(range(self.config.schedule.epochs))}
        try:
            for size, epoch in first_epochs.items():
                self.train_loader.set_epoch(epoch, size)
                self.step.forward_backward(*next(iter(self.train_loader)))
            if self.average is None:  # else the average is evaluated, which is not compiled
                predict_logits(self.model, self.eval_loader, self.runtime)
        finally:
            self.step.optimizer.zero_grad(set_to_none=True)
            self.model.load_state_dict(before)
        synchronize(self.runtime.device)
        return time.perf_counter() - started

    def capture(self, capture: Capture) -> float:
        """Let what remains of the run go through graphs; after a state was loaded, never before. Returns seconds."""
        started = time.perf_counter()
        schedule, batch_size = self.config.schedule, self.config.training.batch_size
        assert isinstance(self.train_loader, ResidentLoader), "graph_choice sees to it"
        steps = range(schedule.epochs * len(self.train_loader))
        rates = [self.schedule.learning_rate(step * batch_size + batch_size / 2) for step in steps]
        settings = settings_of_run(captured_optimizer(self.step), self.average, rates, schedule.epochs)
        sizes = {schedule.image_size(epoch) for epoch in range(self.progress.epochs_done, schedule.epochs)}
        evaluation = CapturedEvaluation(self.evaluated_model, self.eval_loader, self.runtime, capture)
        into = self.losses, self.correct
        self.captured = Captured(
            CapturedSteps(self.step, self.train_loader, settings, *into, sizes, capture), evaluation
        )
        synchronize(self.runtime.device)
        return time.perf_counter() - started

    def _steps(self) -> Iterator[None]:
        """Take the steps that remain of the epoch, one each time that the iterator is advanced."""
        batch_size = self.config.training.batch_size
        for images, labels in self.train_loader:
            learning_rate = self.schedule.learning_rate(self.progress.examples + batch_size / 2)
            loss, correct = self.step(images, labels, learning_rate)
            self.losses[self.progress.steps_done] = loss
            self.correct += correct
            yield

    def _train_epoch(self) -> None:
        progress, log_every = self.progress, self.config.training.log_every
        batch_size = self.config.training.batch_size
        if progress.steps_done == 0:
            size = self.config.schedule.image_size(progress.epochs_done)
            self.train_loader.set_epoch(progress.epochs_done, size)
            self.correct.zero_()
            progress.epoch_started_s = progress.train_time_s
            progress.epoch_step_time_s = 0.0
        looked_at = progress.steps_done
        started, first_step = time.perf_counter(), progress.steps_done
        for _ in self._steps() if self.captured is None else self.captured.steps.epoch():
            progress.steps_done += 1
            progress.examples += batch_size
            if self.profile and self.profile.step_done():
                self._tell_profile(self.profile)
            if self.captured is None and progress.steps_done - looked_at == log_every:
                loss_value = self._look_at_losses(looked_at)
                looked_at = progress.steps_done
                rate = (progress.steps_done - first_step) * batch_size / (time.perf_counter() - started)
                self.observer.steps_done(progress.epochs_done + 1, progress.steps_done, loss_value, rate)
            if self.interrupt_requested:
                break
        self._mark_time()
        seconds = time.perf_counter() - started
        progress.step_time_s += seconds
        progress.epoch_step_time_s += seconds
        if self.interrupt_requested and progress.steps_done < len(self.train_loader):
            self._save_resume_state()
            raise Interrupted(self.run_log.folder)
        self._look_at_losses(looked_at)

    def _tell_profile(self, profile: StepProfile) -> None:
        self.profile = None
        for line in profile.table():
            self.observer.message(line)
        self.observer.message(f"profile: {profile.folder}")

    def _look_at_losses(self, since: int) -> float:
        """Fetch the losses of the steps since the last look; the only place where training waits for the device.

        Graphs run whole epochs without one.
        """
        values = self.losses[since : self.progress.steps_done].tolist()
        for offset, value in enumerate(values):
            if not math.isfinite(value):
                batch_size = self.config.training.batch_size
                behind = self.progress.steps_done - (since + offset)
                examples = self.progress.examples - behind * batch_size
                step = examples // batch_size + 1
                learning_rate = self.schedule.learning_rate(examples + batch_size / 2)
                raise CheckFailedError(
                    f"the loss was {value} at step {step} (epoch {self.progress.epochs_done + 1}), "
                    f"learning rate {learning_rate:.4g}",
                    "lower it with --set optimizer.learning_rate=X",
                )
        return values[-1] if values else math.nan

    def _finish_epoch(self) -> None:
        progress, config = self.progress, self.config
        number = progress.epochs_done + 1
        last = number == config.schedule.epochs
        val_loss = val_accuracy = None
        if last or number > config.training.evaluate_from * config.schedule.epochs:
            val_loss, val_accuracy = self._evaluate()
        seconds = progress.train_time_s - progress.epoch_started_s
        images = len(self.train_loader) * config.training.batch_size
        record = EpochRecord(
            epoch=number,
            image_size=config.schedule.image_size(progress.epochs_done),
            train_loss=self.losses.mean().item(),
            train_accuracy=100.0 * self.correct.item() / images,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            learning_rate=self.schedule.learning_rate(progress.examples - config.training.batch_size / 2),
            images_per_second=images / progress.epoch_step_time_s,
            seconds=seconds,
            train_time_s=progress.train_time_s,
        )
        progress.epochs_done, progress.steps_done = number, 0
        if val_accuracy is not None and val_accuracy > progress.best_accuracy:
            progress.best_accuracy, progress.best_epoch = val_accuracy, number
            save_weights(self.run_log.folder / "best.safetensors", self.evaluated_model, self.weights_metadata)
        save_weights(self.run_log.folder / "last.safetensors", self.evaluated_model, self.weights_metadata)
        self.run_log.append_epoch(record)
        self.observer.epoch_done(record)
        self._save_resume_state()
        if self.interrupt_requested and not last and not self.target_reached:
            raise Interrupted(self.run_log.folder)

    def _evaluate(self) -> tuple[float, float]:
        logits, labels = self._predict()
        percent = accuracy(logits, labels)
        self._mark_time()
        self.last_predictions = logits, labels
        loss = F.cross_entropy(logits, labels).item()
        if not math.isfinite(loss):
            raise CheckFailedError(
                f"the network gives no finite logits after epoch {self.progress.epochs_done + 1}",
                "lower the learning rate with --set optimizer.learning_rate=X",
            )
        target = self.config.training.target
        if target and percent >= target and not self.target_reached:
            self.progress.time_to_target_s = self.progress.train_time_s
        return loss, percent

    def _predict(self) -> tuple[Tensor, Tensor]:
        if self.captured is not None:
            return self.captured.evaluation()
        return predict_logits(self.evaluated_model, self.eval_loader, self.runtime)

    def _mark_time(self) -> None:
        """Bring train_time_s up to now, what the device still has to do included."""
        synchronize(self.runtime.device)
        self.progress.train_time_s = time.perf_counter() - self.clock_zero

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let the first SIGINT or SIGTERM end the run after the step under way; a second one acts at once."""

        def request(number: int, frame: object) -> None:
            self.interrupt_requested = True
            signal.signal(number, previous[signal.Signals(number)])

        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in previous:
            signal.signal(number, request)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _save_resume_state(self) -> None:
        save_resume_state(
            self.run_log.folder,
            {
                "progress": asdict(self.progress),
                "weights_metadata": self.weights_metadata,
                "model": self.model.state_dict(),
                "average": self.average.module.state_dict() if self.average else None,
                "average_updates": self.average.updates if self.average else 0,
                "optimizer": self.step.optimizer.state_dict(),
                "scaler": self.step.scaler.state_dict() if self.step.scaler else None,
                "loader": self.train_loader.state_dict(),
                "losses": self.losses,
                "correct": self.correct,
                "rng": torch.get_rng_state(),
            },
        )

    def load_resume_state(self, state: dict[str, Any], origin: str) -> None:
        """Go on where `state` was saved; `origin` names it in an error.

        Raises:
            DataError: the state is of another model or other data, or no resume state at all.
        """
        assert self.captured is None, "the graphs hold the buffers that loading replaces"
        try:
            restore(self.model, state["model"], origin)
            if state["weights_metadata"] != self.weights_metadata:
                raise DataError(f"{origin}: it was trained on other data", "name that data with --data-dir")
            if self.average is not None:
                restore(self.average.module, state["average"], origin)
                self.average.updates = state["average_updates"]
            self.step.optimizer.load_state_dict(state["optimizer"])
            if self.step.scaler is not None and state["scaler"]:  # it may have begun on hardware without fp16
                self.step.scaler.load_state_dict(state["scaler"])
            self.progress = Progress(**state["progress"])
            self.train_loader.load_state_dict(state["loader"])
            self.losses.copy_(state["losses"])
            self.correct.copy_(state["correct"])
            torch.set_rng_state(state["rng"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise DataError(f"{origin}: the resume state does not fit: {reason}", "start a new run") from error
