"""Grad-CAM against the paper's formula by hand, the class activation map, and objects planted off-centre."""

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor, nn
from trained_runs import random_model

from fastcifar.errors import UsageError
from fastcifar.evaluation import gradcam as module
from fastcifar.evaluation.gradcam import gradcam, overlay
from fastcifar.model.registry import MODELS


def some_images(count: int, height: int = 32, width: int = 32, seed: int = 0) -> Tensor:
    """Smooth, so that maps have places, and of every contrast."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 5, 5, generator=generator)
    return nn.functional.interpolate(coarse, (height, width), mode="bicubic") + torch.randn(
        count, 3, height, width, generator=generator
    ) * torch.rand(count, 1, 1, 1, generator=generator)


def enlarged(maps: Tensor, height: int, width: int) -> Tensor:
    """By pillow, each divided by its maximum where that is positive."""
    rows = [
        np.asarray(Image.fromarray(m.float().numpy()).resize((width, height), Image.Resampling.BILINEAR)) for m in maps
    ]
    return torch.stack([torch.tensor(row / (row.max() if row.max() > 0 else 1)) for row in rows])


def by_hand(
    model: nn.Module, pooling: nn.Module, images: Tensor, classes: Tensor, rectify: bool = True, transpose: bool = False
) -> Tensor:
    """The formula of the paper in float64; its steps can be left out to see that it would show."""
    caught: list[Tensor] = []

    def catch(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        caught.append(inputs[0].detach().requires_grad_())
        return (caught[-1],)

    handle = pooling.register_forward_pre_hook(catch)
    logits = model.double()(images.double())
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[torch.arange(len(images)), classes].sum(), caught[0])
    model.float()
    maps = (gradient.mean((2, 3), keepdim=True) * caught[0].detach()).sum(1)
    maps = maps.clamp_min(0) if rectify else maps
    return enlarged(maps.mT if transpose else maps, *images.shape[2:])


def chosen_classes(count: int, classes: int = 10) -> Tensor:
    return torch.arange(count) * 7 % classes


@pytest.mark.parametrize("name", MODELS)
def test_every_registered_network_against_the_formula(name: str) -> None:
    model, images, classes = random_model(name, seed=2), some_images(6), chosen_classes(6)
    heat = gradcam(model, images, classes)
    assert (heat.shape, heat.dtype, heat.device.type) == ((6, 32, 32), torch.float32, "cpu")
    assert 0 <= heat.min() <= heat.max() <= 1
    assert heat.amax((1, 2)).eq(1).any()
    torch.testing.assert_close(heat, by_hand(model, model.get_submodule("pool"), images, classes), rtol=0, atol=2e-4)


def test_odd_sizes_and_faults_of_the_formula() -> None:
    model, images, classes = random_model("c1c2c3c40-speed"), some_images(5, 35, 51), chosen_classes(5)
    pool = model.get_submodule("pool")
    heat = gradcam(model, images, classes)
    assert heat.shape == (5, 35, 51)
    torch.testing.assert_close(heat, by_hand(model, pool, images, classes), rtol=0, atol=2e-4)
    faulty = {
        "another class": by_hand(model, pool, images, (classes + 1) % 10),
        "not rectified": by_hand(model, pool, images, classes, rectify=False),
        "transposed": by_hand(model, pool, images, classes, transpose=True),
        "another image's": by_hand(model, pool, images.roll(1, 0), classes),
    }
    assert all((heat - other).abs().amax((1, 2)).median() > 0.1 for other in faulty.values()), faulty.keys()


@pytest.mark.parametrize("name", ["c1c2c3c40-speed", "c1c2c3c40-accuracy"])
def test_before_a_linear_head_it_is_the_rectified_class_activation_map(name: str) -> None:
    """Zhou et al. 2016: the class's weights of the head over the last map, here without any gradient."""
    model, images, classes = random_model(name, seed=3), some_images(8, 40, 40), chosen_classes(8)
    assert isinstance(model.head, nn.Linear)
    maps = torch.einsum("nc,nchw->nhw", model.head.weight[classes], model.features(images))  # pyright: ignore[reportCallIssue]
    torch.testing.assert_close(gradcam(model, images, classes), enlarged(maps.clamp_min(0), 40, 40), rtol=0, atol=1e-5)


RED, GREEN, BLUE = range(3)


def colour_detector() -> nn.Module:
    """Logits of how much of an image is red, green or blue, seen in windows of 3x3 pixels."""
    convolution = nn.Conv2d(3, 3, 3, stride=3, bias=False)
    purity = 2 * torch.eye(3) - 1
    convolution.weight.data = purity[:, :, None, None].expand(3, 3, 3, 3) / 9
    return nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).requires_grad_(False)


def test_planted_objects_are_found_where_they_are() -> None:
    images = torch.zeros(3, 3, 33, 51)
    images[:, RED, 3:9, 36:48] = 1
    images[:, GREEN, 21:30, 6:15] = 1
    heat = gradcam(colour_detector(), images, torch.tensor([RED, GREEN, BLUE]))
    red, green, blue = heat
    # A window of three pixels, enlarged, reaches half as far again as it is wide.
    assert (red[4:8, 38:46] == 1).all()
    assert (green[23:28, 8:13] == 1).all()
    for found, (rows, columns) in ((red, (slice(1, 11), slice(34, 50))), (green, (slice(19, 32), slice(4, 17)))):
        outside = found.clone()
        outside[rows, columns] = 0
        assert outside.eq(0).all()
    assert blue.eq(0).all()


def test_the_order_of_the_images_and_the_size_of_the_batch_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images, classes = random_model("c1c2c3c40-speed"), some_images(7), chosen_classes(7)
    heat = gradcam(model, images, classes)
    assert torch.equal(heat, gradcam(model, images, classes))
    torch.testing.assert_close(gradcam(model, images[4:5], classes[4:5])[0], heat[4], rtol=0, atol=1e-5)
    torch.testing.assert_close(gradcam(model, images.flip(0), classes.flip(0)).flip(0), heat, rtol=0, atol=1e-5)
    sizes, with_graph = [], []

    def note(_: nn.Module, __: tuple[Tensor], output: Tensor) -> None:
        sizes.append(len(output))
        with_graph.append(output.requires_grad)

    handle = model.get_submodule("c4").register_forward_hook(note)
    monkeypatch.setattr(module, "BATCH", 3)
    torch.testing.assert_close(gradcam(model, images, classes), heat, rtol=0, atol=1e-5)
    handle.remove()
    assert sizes[-3:] == [3, 3, 1]  # before them one image shows where the pooling is
    assert max(sizes) == 3
    assert not any(with_graph)
    assert gradcam(model, images[:0], classes[:0]).shape == (0, 32, 32)


def test_the_model_and_the_mode_are_left_as_they_were_found() -> None:
    model, images, classes = random_model("c1c2c3c40-speed"), some_images(4), chosen_classes(4)
    expected = gradcam(model, images, classes)
    model.train()
    model.get_submodule("c2").eval()
    model.get_submodule("head").requires_grad_(True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    with torch.inference_mode():
        made_in_inference_mode = images.clone()
        heat = gradcam(model, made_in_inference_mode, classes)
        assert torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
    torch.testing.assert_close(heat, expected, rtol=0, atol=1e-5)
    assert [part.training for part in model.modules()] == modes
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]
    assert all(p.grad is None for p in model.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    with torch.no_grad():
        torch.testing.assert_close(gradcam(model.requires_grad_(True), images, classes), expected, rtol=0, atol=1e-5)
        assert not torch.is_grad_enabled()
    assert not images.requires_grad


class Pooled(nn.Module):
    """A residual's sum, averaged by a function, in a module of its own or in that of the convolutions."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 3, 3, padding=1)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.body(x).relu())


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3)))


def test_a_function_that_pools_counts_in_the_module_that_calls_it() -> None:
    torch.manual_seed(1)
    model, images, classes = Pooled(Head()).eval(), some_images(4), chosen_classes(4, 4)
    expected = by_hand(model, model.head, images, classes)
    torch.testing.assert_close(gradcam(model, images, classes), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(3600, 10)), "no global average pooling"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten()), "no global average pooling"),
        (nn.Sequential(Pooled(nn.Identity()), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2)), "no global average pooling"),
    ],
)
def test_networks_without_the_pooling(model: nn.Module, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        gradcam(model, some_images(1), torch.tensor([0]))


def test_a_map_that_no_module_is_given() -> None:
    class Whole(Pooled):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).mean((2, 3))

    for model in (Whole(nn.Identity()), nn.Sequential(Whole(nn.Identity()))):
        with pytest.raises(UsageError, match="of one module"):
            gradcam(model, some_images(1), torch.tensor([0]))


def test_overlay_leaves_what_is_cold_and_colours_what_is_hot() -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    grey = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in pixels]).astype(float)
    bare = overlay(pixels, torch.zeros(2, 5, 7))
    assert (bare.shape, bare.dtype) == (pixels.shape, np.uint8)
    np.testing.assert_allclose(bare, np.repeat(grey[..., None], 3, axis=3), atol=1)
    heat = torch.from_numpy(generator.random((2, 5, 7), dtype=np.float32))
    inferno = np.array(colormaps["inferno"].colors)[(heat.numpy() * 256).astype(int)] * 255  # pyright: ignore[reportAttributeAccessIssue]
    share = 0.7 * heat.numpy()[..., None]
    np.testing.assert_allclose(overlay(pixels, heat), (1 - share) * grey[..., None] + share * inferno, atol=1.5)
    hot = overlay(np.array([[[[0, 0, 0], [255, 255, 255]]]], dtype=np.uint8), torch.ones(1, 1, 2))[0, 0].astype(int)
    assert (hot[1] - hot[0] > 70).all()  # the picture can still be told
    assert hot[0, 0] - hot[0, 2] > 50  # and yellow lies over it
