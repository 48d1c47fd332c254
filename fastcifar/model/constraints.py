"""The assignment's rules, checked on what a network does when it runs."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from fastcifar.errors import UsageError
from fastcifar.model.layer_table import field_text
from fastcifar.model.registry import count_parameters
from fastcifar.model.summary import proof
from fastcifar.model.trace import Operation, Trace, is_dilated, trace

RULES = (
    "parameters",
    "no-max-pool",
    "receptive-field",
    "depthwise-separable",
    "dilated",
    "global-pooling",
    "reductions",
)
REDUCTIONS = 3


@dataclass(frozen=True)
class Finding:
    """One rule.

    Attributes:
        rule: one of `RULES`.
        demands: the rule in words.
        evidence: what was found, with the names of layers.
    """

    rule: str
    demands: str
    holds: bool
    evidence: str


def check_constraints(
    model: nn.Module,
    max_parameters: int = 200_000,
    min_receptive_field: int = 44,
    leave_out: Iterable[str] = (),
    image_size: int = 32,
) -> list[Finding]:
    """Check a network [B, 3, H, W] -> logits against the rules of its assignment.

    The network runs on one image, and what runs counts: a function as much as a module.

    Args:
        max_parameters: there must be fewer.
        min_receptive_field: the proven receptive field must be larger, in pixels.
        leave_out: rules not to check.

    Raises:
        UsageError: no such rule, or the network does not take an image of that size.
    """
    left_out = set(leave_out)
    if unknown := left_out - set(RULES):
        raise UsageError(f"no such rule: {', '.join(sorted(unknown))}", f"known: {', '.join(RULES)}")
    traced = trace(model, image_size)
    findings = [
        _parameters(traced, max_parameters),
        _no_max_pool(traced),
        *([] if "receptive-field" in left_out else [_receptive_field(traced, min_receptive_field)]),
        _depthwise_separable(traced),
        _dilated(traced),
        _global_pooling(traced),
        _reductions(traced),
    ]
    return [finding for finding in findings if finding.rule not in left_out]


def _parameters(traced: Trace, most: int) -> Finding:
    count = count_parameters(traced.model)
    return Finding("parameters", f"parameters < {most:,}", count < most, f"{count:,}")


def _no_max_pool(traced: Trace) -> Finding:
    found = [operation.place for operation in traced.operations if operation.takes_maximum]
    return Finding("no-max-pool", "no max-pooling", not found, _listed(found) or "none ran")


def _receptive_field(traced: Trace, least: int) -> Finding:
    field, note = proof(traced)
    return Finding(
        "receptive-field", f"receptive field > {least}", field is not None and field > least, field_text(field, note)
    )


def _depthwise_separable(traced: Trace) -> Finding:
    found = []
    for operation in traced.operations:
        if not _is_pointwise(operation):
            continue
        before = [traced.operations[number] for number in sorted(operation.sources)]
        found += [f"{depthwise.module} + {operation.module}" for depthwise in before if _is_depthwise(depthwise)]
    evidence = _listed(found) or "no depthwise convolution that a 1x1 convolution follows"
    return Finding("depthwise-separable", "depthwise-separable convolution", bool(found), evidence)


def _dilated(traced: Trace) -> Finding:
    found = [_described(operation) for operation in traced.operations if _dilates(operation)]
    return Finding("dilated", "dilated convolution", bool(found), _listed(found) or "none ran")


def _global_pooling(traced: Trace) -> Finding:
    pooling = traced.global_pooling
    evidence = pooling.place if pooling else "none ends the maps"
    return Finding("global-pooling", "global average pooling", pooling is not None, evidence)


def _reductions(traced: Trace) -> Finding:
    along = max((operation.reductions for operation in traced.operations), key=len, default=())
    found = [_described(traced.operations[number]) for number in along]
    demands = f"{REDUCTIONS} strided or dilated reductions"
    return Finding("reductions", demands, len(found) >= REDUCTIONS, _listed(found) or "none ran")


def _is_depthwise(operation: Operation) -> bool:
    is_by_channel = operation.groups == operation.channels > 1
    return is_by_channel and operation.window is not None and math.prod(operation.window.kernel) > 1


def _is_pointwise(operation: Operation) -> bool:
    is_dense = operation.operator == "convolution" and operation.groups == 1
    return is_dense and operation.window is not None and operation.window.kernel == (1, 1)


def _dilates(operation: Operation) -> bool:
    return operation.operator == "convolution" and operation.window is not None and is_dilated(operation.window)


def _described(operation: Operation) -> str:
    """A convolution's name with its stride and dilation, where they are not 1."""
    assert operation.window is not None
    stride, dilation = max(operation.window.stride), max(operation.window.dilation)
    traits = [f"stride {stride}"] * (stride > 1) + [f"dilation {dilation}"] * (dilation > 1)
    return f"{operation.module or '(conv2d)'} {' '.join(traits)}"


def _listed(names: list[str]) -> str:
    """The first few."""
    shown = list(dict.fromkeys(names))
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")
