"""A network's layers, with what each costs and sees; and the whole in numbers."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from fastcifar.errors import UsageError
from fastcifar.model.reach import Reach
from fastcifar.model.receptive_field import proven_receptive_field
from fastcifar.model.trace import Call, Operation, Trace, trace

MIB = 1 << 20
FLOAT32_BYTES = 4


@dataclass(frozen=True)
class LayerRow:
    """One module without children, or one function, as it ran.

    Attributes:
        name: dotted name of the module; of a function, the module that called it.
        type: the module's class or the function's name.
        output_shape: for one image, [1, channels, height, width] or [1, features].
        parameters: those that no earlier row had.
        macs: multiply-accumulates for one image; those of convolutions and matrix products.
        kernel, stride, padding, dilation: rows and columns; None where nothing slides over a map.
        groups: of a convolution, else None.
        jump: pixels between the fields of neighbouring units.
        receptive_field: side in pixels, by the formula, along the longest path; infinite after a global operation;
            None, as for the jump, where no formula says it.
    """

    name: str
    type: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    kernel: tuple[int, int] | None
    stride: tuple[int, int] | None
    padding: tuple[int, int] | None
    dilation: tuple[int, int] | None
    groups: int | None
    jump: int | None
    receptive_field: float | None


@dataclass(frozen=True)
class Summary:
    """What `fastcifar summary` shows.

    Attributes:
        image_size: side of the image that the shapes and costs are of.
        parameters: all of them, frozen ones and those of layers that did not run included.
        macs: multiply-accumulates for one image 3 x image_size x image_size.
        receptive_field: side in pixels before the global average pooling, proven by the support of the input gradient;
            infinite where the whole of a large image is seen; None where it cannot be proven.
        receptive_field_formula: the same by the formula, along the longest path; None where no formula says it.
        receptive_field_note: why it cannot be proven, or what there is to say of it.
        activations: elements of all rows' outputs, for one image.
    """

    image_size: int
    layers: tuple[LayerRow, ...]
    parameters: int
    trainable_parameters: int
    macs: int
    receptive_field: float | None
    receptive_field_formula: float | None
    receptive_field_note: str | None
    activations: int

    @property
    def parameters_mib(self) -> float:
        return self.parameters * FLOAT32_BYTES / MIB

    @property
    def activations_mib(self) -> float:
        return self.activations * FLOAT32_BYTES / MIB

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinity: null stands for it."""
        content = asdict(self)
        layers = [{key: _finite(value) for key, value in row.items()} for row in content.pop("layers")]
        sizes = {"parameters_mib": self.parameters_mib, "activations_mib": self.activations_mib}
        return {key: _finite(value) for key, value in content.items()} | sizes | {"layers": layers}


def summarise(model: nn.Module, image_size: int = 32) -> Summary:
    """Run the network on one image [1, 3, image_size, image_size] and tell its layers, costs and receptive field.

    Raises:
        UsageError: it does not take such an image.
    """
    return summary_of(trace(model, image_size))


def summary_of(traced: Trace) -> Summary:
    """As `summarise`, of a network that has run already."""
    parameters = list(traced.model.parameters())
    rows = layer_rows(traced)
    pooling = traced.global_pooling
    reach = pooling.reach_before if pooling else None
    field, note = proof(traced)
    return Summary(
        image_size=traced.image_size,
        layers=rows,
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable_parameters=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        macs=sum(operation.macs for operation in traced.operations),
        receptive_field=field,
        receptive_field_formula=_whole(reach.size) if reach else None,
        receptive_field_note=note,
        activations=sum(math.prod(row.output_shape) for row in rows if row.output_shape),
    )


def proof(traced: Trace) -> tuple[float | None, str | None]:
    """The proven receptive field, and what there is to say of it."""
    try:
        field = proven_receptive_field(traced)
    except UsageError as error:
        return None, f"{error.what} ({error.hint})"
    return field, "the whole image is seen, however large" if math.isinf(field) else None


def layer_rows(traced: Trace) -> tuple[LayerRow, ...]:
    """A row for each module without children that ran, and for each function that costs, mixes pixels or joins."""
    sizes = dict(traced.model.named_parameters(remove_duplicate=False))
    counted: set[int] = set()

    def new(names: Iterable[str]) -> int:
        fresh = {id(sizes[name]): sizes[name].numel() for name in names if id(sizes[name]) not in counted}
        counted.update(fresh)
        return sum(fresh.values())

    rows = []
    for event in traced.events:
        of_call = event.operations if isinstance(event, Call) else (event,)
        shown = [operation for operation in of_call if _is_shown(operation)]
        if isinstance(event, Call) and len(shown) <= 1:
            (one,) = shown or [None]
            parameters = new(event.weights)
            rows.append(_row(event.name, event.type, event.output_shape, event.reach, one, parameters))
        else:
            rows += [_row(o.module, o.label, o.output_shape, o.reach, o, new(o.weights)) for o in shown]
    return tuple(rows)


def _is_shown(operation: Operation) -> bool:
    return bool(
        operation.window
        or operation.macs
        or operation.weights
        or operation.inputs > 1
        or operation.is_global_pooling
        or operation.takes_maximum
    )


def _row(
    name: str, type: str, shape: tuple[int, ...], reach: Reach | None, operation: Operation | None, parameters: int
) -> LayerRow:
    window = operation.window if operation else None
    return LayerRow(
        name=name,
        type=type,
        output_shape=shape,
        parameters=parameters,
        macs=operation.macs if operation else 0,
        kernel=window.kernel if window else None,
        stride=window.stride if window else None,
        padding=window.padding if window else None,
        dilation=window.dilation if window else None,
        groups=operation.groups if operation and operation.operator == "convolution" else None,
        jump=reach.jump if reach else None,
        receptive_field=_whole(reach.size) if reach else None,
    )


def _whole(size: float) -> float:
    """An int where it is finite."""
    return size if math.isinf(size) else int(size)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and math.isinf(value) else value
