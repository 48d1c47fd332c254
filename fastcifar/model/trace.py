"""What a network does to an image: every tensor operator that runs, whether a module or a function called it."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from fastcifar.model.others_code import others_code
from fastcifar.model.reach import Reach, Window, first_argument, joined, named_arguments, reach_after, window_of

AVERAGES = {"mean", "avg_pool2d", "_adaptive_avg_pool2d"}
NORMS = {
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "native_group_norm",
    "native_layer_norm",
}
"""Taken for pointwise: what a normalisation learns of other pixels is their mean and deviation."""
POINTWISE = NORMS | {
    "cat",
    "clone",
    "_unsafe_view",
    "_to_copy",
    "native_dropout",
    "channel_shuffle",
    "native_channel_shuffle",
    "hardswish",
    "hardswish_",
    "_prelu_kernel",
    "rrelu_with_noise",
    "log_sigmoid_forward",
    "glu",
}
"""Operators that keep to a pixel and lack the tag by which torch says so."""


@dataclass(frozen=True)
class Operation:
    """One run of an ATen operator on what came of the image.

    Attributes:
        module: dotted name of the innermost module that ran it; "" is the network itself.
        module_type: class of that module where it has no children, else "": a function was called.
        macs: multiply-accumulates, for the one image.
        weights: names of the parameters it works with.
        inputs: how many of its arguments came of the image.
        groups: of a convolution, else 1.
        channels: of its first input, where that is a map.
        reach_before, reach: what units of its inputs and of its result see; None where no formula says it.
        sources: numbers of the convolutions whose results came here with nothing but pointwise operators between.
        reductions: numbers of the strided or dilated convolutions up to here, along the path with most of them.
        averages: of the operators that average, how many ran up to this one; 0 for others.
        is_global_pooling: it averages a map to one value a channel.
        takes_maximum: it is a max-pooling.
    """

    operator: str
    module: str
    module_type: str
    output_shape: tuple[int, ...]
    macs: int
    weights: frozenset[str]
    inputs: int
    window: Window | None
    groups: int
    channels: int
    reach_before: Reach | None
    reach: Reach | None
    sources: frozenset[int]
    reductions: tuple[int, ...]
    averages: int
    is_global_pooling: bool
    takes_maximum: bool

    @property
    def label(self) -> str:
        """The operator's name as users of `torch.nn.functional` know it."""
        name = self.operator.strip("_").removesuffix("_with_indices")
        return {"convolution": "conv2d", "addmm": "linear", "mm": "linear"}.get(name, name)

    @property
    def place(self) -> str:
        """Where it ran, as evidence for a reader."""
        return f"{self.module} ({self.module_type or self.label})".lstrip()


@dataclass(frozen=True)
class Call:
    """One call of a module without children."""

    name: str
    type: str
    output_shape: tuple[int, ...]
    reach: Reach | None
    weights: frozenset[str]
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class Trace:
    """What ran.

    Attributes:
        model: the copy that ran, on the CPU, in float32 and in evaluation mode.
        image_size: side of the image.
        events: calls of modules without children, and the operations outside of them, in the order they ran.
    """

    model: nn.Module
    image_size: int
    events: tuple[Operation | Call, ...]
    operations: tuple[Operation, ...]

    @property
    def global_pooling(self) -> Operation | None:
        """The global average pooling after which no map is left; None where there is none."""
        for operation in reversed(self.operations):
            if operation.is_global_pooling:
                return operation
            if sum(length > 1 for length in operation.output_shape[1:]) > 1:
                return None
        return None


def trace(model: nn.Module, image_size: int = 32) -> Trace:
    """Run a copy of the network on one image [1, 3, image_size, image_size] and record what it does.

    Raises:
        UsageError: it cannot be copied, or does not take such an image.
    """
    with others_code(f"the network does not take an image of 3x{image_size}x{image_size}"):
        network = copy.deepcopy(model).cpu().float().eval()
        image = torch.zeros(1, 3, image_size, image_size)
        recorder = _Recorder(network, image)
        with torch.no_grad(), recorder:
            network(image)
    return Trace(network, image_size, tuple(recorder.events), tuple(recorder.operations))


class MapsBehind:
    """Finds the map [B, C, H, W] that a flattened or half-averaged tensor was made of."""

    def __init__(self) -> None:
        self._maps: dict[int, Tensor] = {}
        self._alive: list[Any] = []

    def note(self, operator: str, is_view: bool, x: Any, output: Any) -> None:
        if not isinstance(x, Tensor) or not isinstance(output, Tensor) or output.shape[:2] != x.shape[:2]:
            return
        found = self.of(x)
        if found is not None and (operator == "mean" or (is_view and output.ndim == 3)):
            self._maps[id(output)] = found
            # An id says nothing once its object is gone.
            self._alive += [output, found]

    def of(self, x: Tensor) -> Tensor | None:
        return self._maps.get(id(x), x if x.ndim == 4 else None)


@dataclass(frozen=True)
class _Flow:
    """What is known of a tensor that came of the image."""

    reach: Reach | None
    sources: frozenset[int] = frozenset()
    reductions: tuple[int, ...] = ()


class _Recorder(TorchDispatchMode):
    def __init__(self, model: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.events: list[Operation | Call] = []
        self.modules = [""]
        self.begun: int | None = None
        self.leaf = ""
        self.averages = 0
        self.maps = MapsBehind()
        self.flows: dict[int, _Flow] = {id(image): _Flow(Reach.of_image(image))}
        self.weights = {id(p): frozenset([name]) for name, p in model.named_parameters()}
        self.alive: list[Any] = [image]
        for name, module in model.named_modules():
            module.register_forward_pre_hook(self._entering(name, module))
            module.register_forward_hook(self._leaving(name, module))

    def _entering(self, name: str, module: nn.Module) -> Any:
        def hook(*_: Any) -> None:
            self.modules.append(name)
            if not list(module.children()):
                self.begun, self.leaf = len(self.operations), type(module).__name__

        return hook

    def _leaving(self, name: str, module: nn.Module) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            self.modules.pop()
            if self.begun is None or list(module.children()):
                return
            result = next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)
            flow = self.flows.get(id(result))
            shape = () if result is None else tuple(result.shape)
            # A lazy module has its parameters only now.
            weights = frozenset(f"{name}.{own}".lstrip(".") for own, _ in module.named_parameters())
            ran = tuple(self.operations[self.begun :])
            self.events.append(Call(name, type(module).__name__, shape, flow and flow.reach, weights, ran))
            self.begun, self.leaf = None, ""

        return hook

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        results = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        flows = [self.flows[id(x)] for x in given if id(x) in self.flows]
        weights = frozenset[str]().union(*(self.weights.get(id(x), ()) for x in given))
        self.alive += given + results
        if flows and results:
            self._note(func, args, kwargs, results, flows, weights)
        elif weights:
            self.weights |= {id(result): weights for result in results}
        return output

    def _note(self, func: Any, args: Any, kwargs: Any, results: list[Any], flows: list[_Flow], weights: Any) -> None:
        operator, arguments = func.overloadpacket.__name__, named_arguments(func, args, kwargs)
        output, x = results[0], first_argument(arguments)
        window = window_of(operator, arguments, output)
        if operator in AVERAGES:
            self.averages += 1
        behind = self.maps.of(x) if isinstance(x, Tensor) else None
        flattens = behind is not None and tuple(output.shape[:2]) == tuple(behind.shape[:2])
        pools = flattens and operator in AVERAGES and output.numel() == output.shape[0] * output.shape[1]
        pointwise = (torch.Tag.pointwise in func.tags) or operator in POINTWISE
        averaged = self.flows.get(id(behind)) if pools else None
        before = averaged.reach if averaged else joined(flow.reach for flow in flows)
        reach = before
        if before is not None and pools and window is None:
            reach = before.everywhere()
        elif before is not None and (operator == "slice" or not (pointwise or func.is_view)):
            reach = reach_after(operator, arguments, output, before, window)
        reductions = max((flow.reductions for flow in flows), key=len)
        sources = frozenset[int]().union(*(flow.sources for flow in flows))
        count = flop_registry.get(func.overloadpacket)
        operation = Operation(
            operator=operator,
            module=self.modules[-1],
            module_type=self.leaf,
            output_shape=tuple(output.shape),
            macs=count(*args, **(kwargs or {}), out_val=output) // 2 if count else 0,
            weights=weights,
            inputs=len(flows),
            window=window,
            groups=arguments["groups"] if operator == "convolution" else 1,
            channels=x.shape[1] if isinstance(x, Tensor) and x.ndim > 1 else 0,
            reach_before=before,
            reach=reach,
            sources=sources,
            reductions=reductions,
            averages=self.averages if operator in AVERAGES else 0,
            is_global_pooling=pools,
            takes_maximum="max_pool" in operator or _is_spatial_maximum(operator, arguments, x),
        )
        if operator == "convolution":
            number = len(self.operations)
            sources = frozenset([number])
            reductions = (*reductions, number) if window is not None and reduces(window) else reductions
        elif not (pointwise or func.is_view):
            sources = frozenset[int]()
        self.flows |= {id(result): _Flow(reach, sources, reductions) for result in results}
        self.maps.note(operator, func.is_view, x, output)
        self.operations.append(operation)
        if self.begun is None:
            self.events.append(operation)


def reduces(window: Window) -> bool:
    """Whether a convolution can stand in for a pooling: it strides, or is dilated."""
    return max(window.stride) > 1 or is_dilated(window)


def is_dilated(window: Window) -> bool:
    """A 1x1 kernel has no gaps to widen."""
    return any(k > 1 and d > 1 for k, d in zip(window.kernel, window.dilation, strict=True))


def _is_spatial_maximum(operator: str, arguments: dict[str, Any], x: Any) -> bool:
    if operator not in ("amax", "max") or not isinstance(x, Tensor) or x.ndim != 4 or "dim" not in arguments:
        return False
    dims = arguments["dim"] if isinstance(arguments["dim"], list | tuple) else [arguments["dim"]]
    return not dims or any(dim % 4 >= 2 for dim in dims)
