"""Captured steps: equal to the ordinary loop to the bit, with nothing of the host's in them and no wait in an epoch."""

import dataclasses
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from graph_stand_in import record
from torch import Tensor
from training_runs import Recorder, assert_same_weights, make_material, run, weights

from fastcifar.augment import fused
from fastcifar.augment.policy import AugmentPolicy
from fastcifar.dataset.image_set import Dataset
from fastcifar.errors import DeviceError
from fastcifar.evaluation import evaluate
from fastcifar.loader import choose
from fastcifar.loader.resident import ResidentLoader
from fastcifar.training import single_run
from fastcifar.training import trainer as trainer_module
from fastcifar.training.captured import Capture, CapturedSteps
from fastcifar.training.checkpoint import load_resume_state
from fastcifar.training.material import Material
from fastcifar.training.muon import Muon
from fastcifar.training.trainer import Interrupted, Trainer
from fastcifar_kernels.sgd_ema import BACKENDS
from fastcifar_kernels.sgd_ema.optimizer import SGDEMA

OPTIMIZERS = {"sgd": [], "muon": ["optimizer.muon_lr=0.1"], "no average": ["training.ema_decay=0.0"]}
SHORT = ["schedule.epochs=2", "schedule.image_sizes=[[0.0, 8], [0.5, 12]]"]
KEYS = ("image_size", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate")

stood_in = pytest.mark.skipif(BACKENDS["cpu"].used == "none", reason=BACKENDS["cpu"].reason)


def captured(material: Material) -> Material:
    return dataclasses.replace(material, runtime=dataclasses.replace(material.runtime, graph=True))


def pretend_graphs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(single_run, "CudaGraphs", lambda: record)
    patch.setattr(evaluate, "folded", lambda model: model.eval())  # as on a GPU: the graph is of the model itself


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    pretend_graphs(monkeypatch)
    return monkeypatch


def results(recorder: Recorder) -> list[tuple[Any, ...]]:
    return [tuple(getattr(record, key) for key in KEYS) for record in recorder.records]


def flat(state: Any) -> list[Any]:
    """Tensors and counters of a resume state; times and the groups' last rate, which no step reads, left out."""
    if isinstance(state, dict):
        dropped = {"progress", "param_groups", "rng"}
        return [leaf for key, value in state.items() if key not in dropped for leaf in flat(value)]
    return [state]


def assert_same_run(first: str, second: str) -> None:
    assert_same_weights(weights(first), weights(second))
    one, other = (load_resume_state(Path(folder)) for folder in (first, second))
    assert {key: one["progress"][key] for key in ("epochs_done", "steps_done", "examples", "best_accuracy")} == {
        key: other["progress"][key] for key in ("epochs_done", "steps_done", "examples", "best_accuracy")
    }
    for ours, theirs in zip(flat(one), flat(other), strict=True):
        assert torch.equal(ours, theirs) if isinstance(ours, Tensor) else ours == theirs


@stood_in
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_captured_and_ordinary_runs_are_equal_to_the_bit(colours, tmp_path, stand_in, optimizer) -> None:
    material = make_material(colours, *OPTIMIZERS[optimizer])  # three epochs, the last at twice the size
    ordinary, watched = Recorder(), Recorder()
    first = run(material, tmp_path, ordinary)
    second = run(captured(material), tmp_path, watched)
    assert results(watched) == results(ordinary)
    assert_same_run(first["run_dir"], second["run_dir"])
    assert (first["used"]["graph"], second["used"]["graph"], watched.warnings) == ("off", "on", [])
    assert second["warmup_time_s"] > 0 == first["warmup_time_s"]
    assert watched.looks == [] != ordinary.looks


@stood_in
@pytest.mark.parametrize("kinds", ["captured twice", "captured, then not", "not, then captured"])
@pytest.mark.parametrize("at", [3, 11])
def test_a_run_stopped_inside_an_epoch_goes_on_to_the_bit(colours, tmp_path, stand_in, at, kinds) -> None:
    material = make_material(colours, *SHORT, *OPTIMIZERS["muon"], "training.log_every=1")
    begun = material if kinds.startswith("not") else captured(material)
    finished = material if kinds.endswith("not") else captured(material)
    whole = run(material, tmp_path)
    stops_after(at, stand_in)
    with pytest.raises(Interrupted) as stop:
        run(begun, tmp_path)
    stand_in.undo()
    pretend_graphs(stand_in)
    folder = Path(str(stop.value))
    state = load_resume_state(folder)
    assert (state["progress"]["epochs_done"], state["progress"]["steps_done"]) == divmod(at, 8)
    assert state["loader"]["batch"] == at % 8
    run(finished, tmp_path, resume=folder)
    assert_same_run(whole["run_dir"], str(folder))


def stops_after(steps: int, patch: pytest.MonkeyPatch) -> None:
    """SIGINT at the end of a run's step of that number, in the loop of either kind."""

    def counted(real: Callable[[Any], Iterator[None]]) -> Callable[[Any], Iterator[None]]:
        def generator(self: Any) -> Iterator[None]:
            for _ in real(self):
                calls.append(None)
                if len(calls) == steps:
                    signal.raise_signal(signal.SIGINT)
                yield

        return generator

    calls: list[None] = []
    patch.setattr(CapturedSteps, "epoch", counted(CapturedSteps.epoch))
    patch.setattr(Trainer, "_steps", counted(Trainer._steps))


@stood_in
@pytest.mark.parametrize("fault", ["epoch", "order", "SGD's settings", "Muon's rates", "share"])
def test_what_the_host_decides_at_the_capture_is_noticed(colours, tmp_path, stand_in, fault) -> None:
    material = make_material(colours, *SHORT, *OPTIMIZERS["muon"])
    expected = run(material, tmp_path)
    if fault == "epoch":
        make_batch = ResidentLoader.make_batch
        stand_in.setattr(
            ResidentLoader,
            "make_batch",
            lambda self, indices, epoch, size: make_batch(self, indices, torch.full((), int(self._epoch)), size),
        )
    if fault == "order":
        begin, orders = ResidentLoader.begin, []
        stand_in.setattr(ResidentLoader, "begin", lambda self: orders.append(begin(self)) or orders[0])
    if fault == "SGD's settings":
        stand_in.setattr(SGDEMA, "read_settings_from", lambda self, settings: None)
    if fault == "Muon's rates":
        stand_in.setattr(Muon, "read_settings_from", lambda self, settings: None)
    if fault == "share":
        stand_in.setattr(trainer_module, "settings_of_run", with_constant_share(trainer_module.settings_of_run))
    result = run(captured(material), tmp_path)
    assert result["used"]["graph"] == "on"
    with pytest.raises(AssertionError):
        assert_same_run(expected["run_dir"], result["run_dir"])


@stood_in
def test_a_wait_inside_a_step_is_noticed(colours, tmp_path, stand_in) -> None:
    stand_in.setattr(Tensor, "remainder", lambda self, other: torch.full((1,), self.item() % other))
    recorder = Recorder()
    assert run(captured(make_material(colours, *SHORT)), tmp_path, recorder)["used"]["graph"] == "off"
    assert "the host waits" in recorder.warnings[0]


def with_constant_share(real: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def changed(*arguments: Any) -> Tensor:
        settings = real(*arguments)
        settings[..., -1] = settings[0, 0, -1]
        return settings

    return changed


def refused(*arguments: Any) -> None:
    raise AssertionError("a tensor was read inside an epoch")


def unread(real: Callable[[Any], Iterator[None]]) -> Callable[[Any], Iterator[None]]:
    """The steps of an epoch, with an error for whoever reads a tensor before their end."""

    def guarded(self: Any) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__"):
                patch.setattr(Tensor, name, refused)
            yield from real(self)

    return guarded


@stood_in
def test_nothing_is_read_inside_an_epoch(colours, tmp_path, stand_in) -> None:
    material = make_material(colours, *SHORT)
    for kind, steps in ((CapturedSteps, "epoch"), (Trainer, "_steps")):
        stand_in.setattr(kind, steps, unread(getattr(kind, steps)))
    assert run(captured(material), tmp_path)["used"]["graph"] == "on"
    with pytest.raises(AssertionError, match="read inside an epoch"):  # the ordinary loop looks at every third loss
        run(material, tmp_path)


def fails_at(call: int) -> Callable[[], Capture]:
    """Captures, of which one fails after its rehearsal."""

    def capture(work: Callable[[], object]) -> Callable[[], object]:
        calls.append(None)
        work()
        if len(calls) == call:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        return record(work)

    calls: list[None] = []
    return lambda: capture


@stood_in
@pytest.mark.parametrize("call", [1, 2, 3])  # the evaluation, the first size, the second
def test_a_capture_that_fails_is_reported_and_done_without(colours, tmp_path, stand_in, call) -> None:
    material, recorder = make_material(colours, *SHORT, *OPTIMIZERS["muon"]), Recorder()
    expected = run(material, tmp_path)
    stand_in.setattr(single_run, "CudaGraphs", fails_at(call))
    result = run(captured(material), tmp_path, recorder)
    assert result["used"]["graph"] == "off"
    assert_same_run(expected["run_dir"], result["run_dir"])
    (warning,) = recorder.warnings
    assert "operation not permitted when stream is capturing" in warning
    strict = captured(make_material(colours, *SHORT, "runtime.strict=true"))
    stand_in.setattr(single_run, "CudaGraphs", fails_at(call))
    with pytest.raises(DeviceError, match="--no-graph"):
        run(strict, tmp_path)


@stood_in
def test_a_captured_evaluation_covers_a_ragged_batch(colours: Dataset, tmp_path, stand_in) -> None:
    stand_in.setattr(choose, "EVALUATION_BATCH", 30)  # of a hundred images
    material, ordinary, watched = make_material(colours, *SHORT), Recorder(), Recorder()
    run(material, tmp_path, ordinary)
    run(captured(material), tmp_path, watched)
    assert results(watched) == results(ordinary)


@stood_in
def test_target_and_profile_work_as_in_the_ordinary_loop(colours: Dataset, tmp_path, stand_in) -> None:
    reached = run(captured(make_material(colours, "schedule.epochs=8", "training.target=20")), tmp_path)
    assert reached["target_reached"]
    assert reached["epochs"] < 8
    profiled = run(captured(make_material(colours, "runtime.profile=true")), tmp_path)  # 24 steps
    assert sorted(path.name for path in (Path(profiled["run_dir"]) / "profile").iterdir()) == [
        "top.txt",
        "trace.json.gz",
    ]


@stood_in
def test_other_seeds_each_have_their_graphs(colours, tmp_path, stand_in) -> None:
    material = make_material(colours, *SHORT, "training.runs=2")
    whole, other = run(material, tmp_path), run(captured(material), tmp_path)
    for one, two in zip(whole["results"], other["results"], strict=True):
        assert_same_run(one["run_dir"], two["run_dir"])


def test_the_epoch_of_a_batch_may_lie_on_the_device() -> None:
    if not fused.serves(torch.device("cpu")):
        pytest.skip("no library")
    loader, ordinary = (make_loader() for _ in range(2))
    epoch = torch.zeros((), dtype=torch.int64)
    order, images = torch.zeros(4, 10, dtype=torch.int64), torch.zeros(4, 10, 3, 16, 16)
    replay = record(lambda: [images[b].copy_(loader.make_batch(order[b], epoch, 16)[0]) for b in range(4)])
    for number in (5, 0, 2**32 - 1):
        loader.set_epoch(number, 16)
        ordinary.set_epoch(number, 16)
        order.copy_(loader.begin())
        epoch.fill_(number)
        replay()
        assert torch.equal(images, torch.stack([batch for batch, _ in ordinary]))


def make_loader() -> ResidentLoader:
    generator = torch.Generator().manual_seed(0)
    return ResidentLoader(
        torch.randint(0, 256, (43, 32, 32, 3), dtype=torch.uint8, generator=generator),
        torch.arange(43),
        10,
        policy=AugmentPolicy(affine=0.8, dropout=0.5),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        seed=7,
        device="cpu",
        dtype=torch.float32,
        shuffle=True,
        drop_last=True,
    )
