"""Batch-norm taken into the convolutions before it: in evaluation both are one affine map of each channel."""

from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_weights

CONVOLUTION, BATCH_NORM = torch.ops.aten.conv2d.default, torch.ops.aten.batch_norm.default


def fold_batch_norm(graph: GraphModule) -> tuple[int, int]:
    """Fold, in place, every batch-norm that directly follows a convolution whose result nothing else reads.

    One behind a ReLU stays: it could go only into the next convolution, whose zero padding it does not know.

    Args:
        graph: an exported network in evaluation mode, as `torch.export.ExportedProgram.module` gives it.

    Returns:
        How many were folded, and how many there were.
    """
    norms = [node for node in graph.graph.nodes if node.target == BATCH_NORM]
    folded = [norm for norm in norms if _follows_a_convolution_of_its_own(norm)]
    for norm in folded:
        _fold(graph, norm)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return len(folded), len(norms)


def _follows_a_convolution_of_its_own(norm: Node) -> bool:
    convolution: Any = norm.args[0]
    training = norm.args[5]
    if training or convolution.target != CONVOLUTION or len(convolution.users) > 1:
        return False
    parameters = [convolution.args[1], *convolution.args[2:3]]
    return all(parameter is None or len(parameter.users) == 1 for parameter in parameters)


def _fold(graph: GraphModule, norm: Node) -> None:
    """In float64, so that the one rounding left is that of the result."""
    convolution: Any = norm.args[0]
    arguments: Any = norm.args
    _, gamma, beta, mean, variance, _, _, epsilon, *_ = arguments
    weight, bias = convolution.args[1], (*convolution.args, None)[2]
    w, b, m, v, g, s = (_value(graph, node) for node in (weight, bias, mean, variance, gamma, beta))
    new_weight, new_bias = fuse_conv_bn_weights(w, b, m, v, epsilon, g, s)
    path, _, name = weight.target.rpartition(".")
    owner = graph.get_submodule(path)
    bias_name = name.replace("weight", "bias")
    for key, value in ((name, new_weight), (bias_name, new_bias)):
        setattr(owner, key, nn.Parameter(value.float(), requires_grad=False))
    with graph.graph.inserting_before(convolution):
        new_node = graph.graph.get_attr(f"{path}.{bias_name}" if path else bias_name)
    convolution.args = (convolution.args[0], weight, new_node, *convolution.args[3:])
    norm.replace_all_uses_with(convolution)
    graph.graph.erase_node(norm)


def _value(graph: GraphModule, node: Any) -> Any:
    if node is None:
        return None
    path, _, name = node.target.rpartition(".")
    return getattr(graph.get_submodule(path), name).detach().double()
