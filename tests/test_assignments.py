"""The five published answers: their figures, their shapes, and that their recipes say and do what they should."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_runs import Recorder, run

from fastcifar.dataset.shapes10 import make_shapes10
from fastcifar.dataset.statistics import channel_statistics
from fastcifar.errors import UsageError
from fastcifar.loader.choose import LoaderChoice
from fastcifar.model.assignments import DROPOUT
from fastcifar.model.receptive_field import receptive_field
from fastcifar.model.registry import MODELS, build_model, check_image_sizes, count_parameters
from fastcifar.runtime import choose_runtime
from fastcifar.settings import recipe_names, resolve
from fastcifar.training.material import Material
from fastcifar.training.optimizer_choice import with_optimizer

PUBLISHED = {
    "assignment-151k": (151_902, 95, (10, 4, 4)),
    "assignment-162k": (162_296, 67, (10, 4, 4)),
    "assignment-671k": (671_690, 36, (10, 4, 4)),
    "assignment-98k": (98_779, 51, (128, 6, 6)),
    "assignment-98k-group": (98_779, 51, (128, 6, 6)),
    "assignment-98k-layer": (98_779, 51, (128, 6, 6)),
    "assignment-170k": (170_304, 83, (10, 4, 4)),
}
"""Parameters, receptive field, shape of `features` at 32 pixels."""

RECIPES = [name for name in recipe_names() if name.startswith("assignment-")]
NORMS = (nn.BatchNorm2d, nn.GroupNorm)


def kinds(model: nn.Module, *wanted: type[nn.Module]) -> list[Any]:
    return [layer for layer in model.modules() if isinstance(layer, wanted)]


def test_all_of_them_are_here() -> None:
    assert {name for name in MODELS if name.startswith("assignment-")} == PUBLISHED.keys()
    assert {f"assignment-{size}k" for size in (151, 162, 671, 98, 170)} == set(RECIPES)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_receptive_field_and_shapes(name: str) -> None:
    model: Any = build_model(name).eval()
    parameters, field, shape = PUBLISHED[name]
    assert count_parameters(model) == parameters
    assert receptive_field(model) == field
    images = torch.randn(3, 3, 32, 32)
    assert model.features(images).shape == (3, *shape)
    assert model(images).shape == (3, 10)
    assert build_model(name, classes=7).eval()(torch.randn(2, 3, 23, 41)).shape == (2, 7)


def theoretical_field(name: str) -> int:
    """1 + sum of (kernel - 1) * dilation * product of earlier strides, over a network that is a chain."""
    model: Any = build_model(name)
    field, jump = 1, 1
    for layer in kinds(model.features, nn.Conv2d, nn.MaxPool2d):
        kernel, stride, dilation = (
            value[0] if isinstance(value, tuple) else value
            for value in (layer.kernel_size, layer.stride, layer.dilation)
        )
        field += (kernel - 1) * dilation * jump
        jump *= stride
    return field


@pytest.mark.parametrize("name", PUBLISHED)
def test_theory_agrees_with_the_measured_receptive_field(name: str) -> None:
    assert theoretical_field(name) == PUBLISHED[name][1]


@pytest.mark.parametrize("name", PUBLISHED)
def test_gradients_reach_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name)
    nn.functional.cross_entropy(model(torch.randn(16, 3, 32, 32)), torch.arange(16) % 10).backward()
    without = [label for label, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("assignment-151k", ["ReLU", "BatchNorm2d", "Dropout"]),
        ("assignment-162k", ["BatchNorm2d", "ReLU", "Dropout2d"]),
        ("assignment-671k", ["ReLU", "BatchNorm2d"]),
        ("assignment-98k", ["BatchNorm2d", "Dropout", "ReLU"]),
        ("assignment-98k-group", ["GroupNorm", "Dropout", "ReLU"]),
        ("assignment-98k-layer", ["GroupNorm", "Dropout", "ReLU"]),
        ("assignment-170k", ["ReLU", "BatchNorm2d", "Dropout2d"]),
    ],
)
def test_what_follows_a_convolution(name: str, order: list[str]) -> None:
    model: Any = build_model(name)
    first = list(model.features[0])
    assert [type(layer).__name__ for layer in first[1:]] == order
    assert all(layer.p == DROPOUT for layer in kinds(model, nn.Dropout, nn.Dropout2d))
    assert (len(kinds(model, nn.Dropout, nn.Dropout2d)) > 0) == (name != "assignment-671k")


def test_biases_stand_where_they_were_published() -> None:
    def with_bias(name: str) -> list[bool]:
        return [layer.bias is not None for layer in kinds(build_model(name), nn.Conv2d)]

    assert not any(with_bias("assignment-151k") + with_bias("assignment-162k") + with_bias("assignment-98k"))
    assert all(with_bias("assignment-671k"))
    strided = [layer.stride == (2, 2) for layer in kinds(build_model("assignment-170k"), nn.Conv2d)]
    assert with_bias("assignment-170k") == strided
    assert sum(strided) == 3


def test_the_three_normalisations_normalise_over_what_they_say() -> None:
    x = 3 + 2 * torch.randn(8, 64, 6, 6, dtype=torch.float64)
    sizes = {"": (8, 64, [0, 2, 3]), "-group": (8, 32, [2, 3, 4]), "-layer": (8, 1, [2, 3, 4])}
    for suffix, (images, groups, axes) in sizes.items():
        (norm, *_) = kinds(build_model(f"assignment-98k{suffix}").double(), *NORMS)
        assert len(norm.weight) == len(norm.bias) == 64
        parts = x if suffix == "" else x.view(images, groups, -1, 6, 6)
        variance, mean = torch.var_mean(parts, dim=axes, keepdim=True, correction=0)
        right = ((parts - mean) / (variance + norm.eps).sqrt()).view_as(x)
        torch.testing.assert_close(norm(x), right, msg=suffix)


def test_images_that_are_too_small_are_refused_in_one_line() -> None:
    check_image_sizes("assignment-671k", [20, 32])
    check_image_sizes("assignment-151k", [8, 32])
    with pytest.raises(UsageError, match="assignment-671k takes no images of 16 pixels") as caught:
        check_image_sizes("assignment-671k", [32, 16])
    assert "image_sizes=[[0.0, 32]]" in caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("typed", ["assignment-98", "assignment_98k", "asignment-98k"])
def test_a_mistyped_name_is_mended(typed: str) -> None:
    with pytest.raises(UsageError, match="did you mean assignment-98k"):
        build_model(typed)


@pytest.mark.parametrize(
    ("name", "epochs", "step_size", "gamma", "batch_size"),
    [
        ("assignment-151k", 36, 12, 0.2, 128),
        ("assignment-162k", 40, 15, 0.2, 128),
        ("assignment-671k", 40, 8, 0.5, 64),
        ("assignment-98k", 64, 20, 0.2, 128),
        ("assignment-170k", 40, 15, 0.2, 128),
    ],
)
def test_recipes_are_their_authors_plain_training(
    name: str, epochs: int, step_size: int, gamma: float, batch_size: int
) -> None:
    config = resolve(name, environment={}).config
    schedule, training, augment = config.schedule, config.training, config.augment
    assert config.model.name == name
    assert (schedule.kind, schedule.epochs, schedule.step_size, schedule.gamma) == ("step", epochs, step_size, gamma)
    assert schedule.image_sizes == ((0.0, 32),)
    assert (training.batch_size, training.ema_decay, training.label_smoothing) == (batch_size, 0.0, 0.0)
    assert (config.model.whiten_stem, config.optimizer.bias_lr_scale) == (False, 1.0)
    assert min(augment.flip, augment.affine, augment.dropout) > augment.gray == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_an_epoch_of_each_recipe_on_shapes10(name: str, tmp_path: Path) -> None:
    """A few steps of its own batch size, then the rate drops as its schedule says."""
    limits = [
        "schedule.epochs=2",
        "schedule.step_size=1",
        "runtime.device=cpu",
        "runtime.amp=false",
        "runtime.threads=1",
    ]
    resolved = resolve(name, settings=limits, environment={})
    config = resolved.config
    runtime = with_optimizer(choose_runtime(config.runtime), config.optimizer)
    dataset = make_shapes10(5 * config.training.batch_size, 100)
    statistics = channel_statistics(dataset.train.images)
    recorder = Recorder()
    material = Material(resolved, runtime, dataset, statistics, LoaderChoice("resident", "test"))
    result = run(material, tmp_path, recorder)
    assert (result["parameters"], result["receptive_field"]) == PUBLISHED[name][:2]
    rate = config.optimizer.learning_rate
    assert [record.learning_rate for record in recorder.records] == pytest.approx([rate, rate * config.schedule.gamma])
    assert recorder.records[-1].train_loss < recorder.records[0].train_loss
