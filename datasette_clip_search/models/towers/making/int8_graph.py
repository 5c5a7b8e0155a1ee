"""Rewrite a float32 ONNX graph to int8: the activations to quantise, and their operators."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..int8_ranges import MOST_SHIFT

Array = NDArray[Any]
Range = tuple[float, float, list[int]]
"""The lowest and highest value of an activation after its channels are divided by powers of two,
and those powers."""

# Activation functions that ONNX Runtime merges into the convolution before them.
MERGED = {"Relu", "Clip"}
MICROSOFT = "com.microsoft"


def activations(graph: Any) -> dict[str, Array | None]:
    """Return the activations that `to_int8` quantises, in the graph's order.

    An activation that only products with constant matrices read comes with the largest absolute
    weight of each of its channels (c,), float32, the others with None.
    """
    constants = {constant.name: constant for constant in graph.initializer}
    paired = _paired(graph, constants, _users(graph))
    found: dict[str, Array | None] = {}
    for node in graph.node:
        if is_product(node, constants) and node.input[0] not in paired:
            largest = np.abs(matrix_of(node, constants)).max(axis=1)
            before = found.get(node.input[0])
            found[node.input[0]] = largest if before is None else np.maximum(before, largest)
    return found | dict.fromkeys(sorted(paired))


def channel_shifts(low: Array, high: Array, weights: Array) -> list[int]:
    """Return the powers of two by which to divide an activation's channels, for more equal ranges.

    A few channels of a transformer are many times as large as the others, which a common scale
    would round away. Their weights are multiplied instead, half-way to where only the weights
    would differ (SmoothQuant, Xiao et al., 2023, with alpha 0.5). Powers of two lose nothing.

    `low`, `high` and `weights` are the extremes and the largest absolute weights (c,).
    """
    largest = np.maximum(np.abs(low), np.abs(high))
    used = (largest > 0) & (weights > 0)
    if not used.any():
        return [0] * len(largest)
    ratio = np.log2(np.where(used, largest, 1) / np.where(used, weights, 1)) / 2
    # Truncated, so that a model whose channels are alike stays as it is.
    shifts = np.where(used, np.trunc(ratio - np.median(ratio[used])), 0)
    return [int(shift) for shift in np.clip(shifts, -MOST_SHIFT, MOST_SHIFT)]


def watch(graph: Any, names: Mapping[str, Array | None]) -> None:
    """Add outputs to a graph: the lowest, then the highest value of each activation.

    `names` is from `activations`; an activation with weights is watched channel by channel.
    """
    for number, (name, weights) in enumerate(names.items()):
        prefix = f"watch_{number}"
        if weights is None:
            watched, axes = name, ""
        else:
            shape = np.array([-1, len(weights)])
            watched, axes = f"{prefix}_rows", f"{prefix}_axes"
            graph.initializer.append(numpy_helper.from_array(shape, f"{prefix}_shape"))
            graph.initializer.append(numpy_helper.from_array(np.array([0]), axes))
            graph.node.append(helper.make_node("Reshape", [name, f"{prefix}_shape"], [watched]))
        for operator in ("ReduceMin", "ReduceMax"):
            output = f"{prefix}_{operator}"
            graph.node.append(helper.make_node(operator, [watched, axes], [output], keepdims=0))
            graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))


def to_int8(model: Any, ranges: Mapping[str, Range]) -> None:
    """Rewrite `model` in place.

    A product with a constant matrix becomes ONNX Runtime's MatMulIntegerToFloat: integers in,
    float32 out for the operators after it. A convolution goes between pairs of QuantizeLinear and
    DequantizeLinear, which ONNX Runtime turns into QLinearConv.
    """
    _Quantizer(model.graph, ranges).run()
    imported = {opset.domain for opset in model.opset_import}
    if MICROSOFT not in imported:
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    # The exporter notes the lines of Python that each node came from.
    model.doc_string = ""
    for part in [model, model.graph, *model.graph.node, *model.graph.initializer]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    del model.graph.value_info[:]


class _Quantizer:
    def __init__(self, graph: Any, ranges: Mapping[str, Range]):
        self.graph = graph
        self.ranges = ranges
        self.constants = {constant.name: constant for constant in graph.initializer}
        self.users = _users(graph)
        self.nodes: list[Any] = []
        self.quantized: dict[str, tuple[str, str, str]] = {}
        self.paired = _paired(graph, self.constants, self.users)
        self.read_back: set[str] = set()
        self.skipped: set[str] = set()

    def run(self) -> None:
        for node in self.graph.node:
            if node.output[0] in self.skipped:
                continue
            if is_product(node, self.constants):
                self._product(node)
            elif is_convolution(node, self.constants):
                self._convolution(node)
            else:
                self._other(node)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        kept = [constant for name, constant in self.constants.items() if name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _product(self, node: Any) -> None:
        matrix = matrix_of(node, self.constants)
        shifts = self.ranges[node.input[0]][2]
        if any(shifts):
            matrix = np.ldexp(matrix, np.array(shifts)[:, np.newaxis])
        bias = node.input[2] if len(node.input) > 2 else ""
        output = node.output[0]
        follower = self._bias_after(node)
        if not bias and follower:
            bias, output = follower
            self.skipped.add(output)
        weights, scales = _symmetric(matrix, axis=1)
        integers, scale, zero = self._quantize(node.input[0])
        inputs = [
            integers,
            self._constant(f"{output}_int8", weights),
            scale,
            self._constant(f"{output}_scales", scales),
            zero,
            "",
            bias,
        ]
        self.nodes.append(
            helper.make_node("MatMulIntegerToFloat", inputs, [output], domain=MICROSOFT)
        )

    def _bias_after(self, node: Any) -> tuple[str, str] | None:
        """Return the bias added to a product that nothing else reads, and the name of the sum."""
        users = self.users[node.output[0]]
        if len(users) != 1 or users[0].op_type != "Add":
            return None
        [other] = [name for name in users[0].input if name != node.output[0]] or [""]
        constant = self.constants.get(other)
        columns = matrix_of(node, self.constants).shape[1]
        if constant is None or list(constant.dims) != [columns]:
            return None
        return other, users[0].output[0]

    def _convolution(self, node: Any) -> None:
        output = node.output[0]
        weights, scales = _symmetric(numpy_helper.to_array(self.constants[node.input[1]]), axis=0)
        _, input_scale, _ = self._quantize(node.input[0])
        inputs = [node.input[0], self._constant_pair(f"{output}_int8", weights, scales)]
        if len(node.input) > 2 and node.input[2]:
            bias = numpy_helper.to_array(self.constants[node.input[2]])
            scales = scales * numpy_helper.to_array(self.constants[input_scale])
            limit = np.iinfo(np.int32).max // 2
            integers = np.rint(np.clip(bias / scales.astype(np.float64), -limit, limit))
            inputs.append(self._constant_pair(f"{output}_bias", integers.astype(np.int32), scales))
        convolution = helper.make_node("Conv", inputs, [output])
        convolution.attribute.extend(node.attribute)
        self._other(convolution)

    def _other(self, node: Any) -> None:
        """Keep a node. It reads a quantised activation as floats again."""
        for position, name in enumerate(node.input):
            if name in self.paired:
                node.input[position] = f"{name}_float"
                if name not in self.read_back:
                    self.read_back.add(name)
                    self.nodes.append(
                        helper.make_node(
                            "DequantizeLinear", self._quantize(name), [f"{name}_float"]
                        )
                    )
        self.nodes.append(node)

    def _quantize(self, name: str) -> tuple[str, str, str]:
        """Return the names of an activation's integers, scale and zero point."""
        if name not in self.quantized:
            low, high, shifts = self.ranges[name]
            source = name
            if any(shifts):
                source = f"{name}_even"
                factors = np.ldexp(np.float32(1), -np.array(shifts))
                inputs = [name, self._constant(f"{name}_factors", factors.astype(np.float32))]
                self.nodes.append(helper.make_node("Mul", inputs, [source]))
            scale, zero = _affine(low, high)
            parts = self._constant(f"{name}_scale", scale), self._constant(f"{name}_zero", zero)
            self.nodes.append(
                helper.make_node("QuantizeLinear", [source, *parts], [f"{name}_uint8"])
            )
            self.quantized[name] = f"{name}_uint8", *parts
        return self.quantized[name]

    def _constant_pair(self, name: str, integers: Array, scales: Array) -> str:
        parts = [
            self._constant(name, integers),
            self._constant(f"{name}_scales", scales),
            self._constant(f"{name}_zeros", np.zeros(len(scales), integers.dtype)),
        ]
        self.nodes.append(helper.make_node("DequantizeLinear", parts, [f"{name}_float"], axis=0))
        return f"{name}_float"

    def _constant(self, name: str, value: Array) -> str:
        self.constants[name] = numpy_helper.from_array(value, name)
        return name


def _symmetric(weights: Array, axis: int) -> tuple[Array, Array]:
    """Return int8 weights and the float32 scale of each index of `axis`."""
    others = tuple(other for other in range(weights.ndim) if other != axis)
    largest = np.abs(weights).max(axis=others, keepdims=True)
    # A channel of zeros has no scale of its own.
    scales = (np.where(largest > 0, largest, 127) / 127).astype(np.float32)
    integers = np.clip(np.rint(weights / scales), -127, 127).astype(np.int8)
    return np.ascontiguousarray(integers), scales.ravel()


def _affine(low: float, high: float) -> tuple[Array, Array]:
    """Return the scale, float32, and the zero point, uint8, of a range. They map 0 exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / 255) or np.float32(1)
    zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
    return np.asarray(scale, np.float32), np.asarray(zero, np.uint8)


def _users(graph: Any) -> dict[str, list[Any]]:
    users = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node)
    # The caller uses the graph's own outputs, so nothing may merge across them.
    for output in graph.output:
        users[output.name] += [output, output]
    return users


def _paired(graph: Any, constants: Collection[str], users: Mapping[str, list[Any]]) -> set[str]:
    """Return the activations that are quantised for all of their users: those of convolutions."""
    names = set()
    for node in graph.node:
        if is_convolution(node, constants):
            names |= {node.input[0], _merged_output(node, users)}
    return names


def _merged_output(convolution: Any, users: Mapping[str, list[Any]]) -> str:
    """Return the output of a convolution with the activation function that merges into it."""
    output: str = convolution.output[0]
    following = users.get(output, [])
    if len(following) == 1 and following[0].op_type in MERGED:
        output = following[0].output[0]
    return output


def is_product(node: Any, constants: Mapping[str, Any]) -> bool:
    """Return whether a node multiplies by a constant matrix."""
    if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in constants:
        return False
    if len(constants[node.input[1]].dims) != 2:
        return False
    settings = _attributes(node)
    return (
        settings.get("alpha", 1) == 1
        and settings.get("beta", 1) == 1
        and not settings.get("transA")
    )


def matrix_of(node: Any, constants: Mapping[str, Any]) -> Array:
    """Return the matrix (in, out) of a product."""
    matrix: Array = numpy_helper.to_array(constants[node.input[1]])
    return matrix.T if _attributes(node).get("transB") else matrix


def is_convolution(node: Any, constants: Collection[str]) -> bool:
    """Return whether a node is a convolution with constant weights."""
    return node.op_type == "Conv" and all(name in constants for name in node.input[1:] if name)


def _attributes(node: Any) -> dict[str, Any]:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}
