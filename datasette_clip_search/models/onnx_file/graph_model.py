"""A strict reader of ONNX files: nodes, constants, inputs and outputs, and nothing else.

It refuses data outside the file, graphs inside nodes, functions, values other than dense tensors of
plain numbers, and any field that is not listed here.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.config import CONFIG
from .wire import REFUSED, Field, OnnxRefused, read

Shape = tuple[int, ...]

FLOAT, UINT8, INT8, INT32, INT64, BOOL, FLOAT16 = 1, 2, 3, 6, 7, 9, 10
# Their layout in ONNX's raw data.
TYPES = {
    FLOAT: "<f4",
    UINT8: "u1",
    INT8: "i1",
    INT32: "<i4",
    INT64: "<i8",
    BOOL: "?",
    FLOAT16: "<f2",
}

MICROSOFT = "com.microsoft"
# ONNX's own operators, in the versions that the rules for shapes here follow.
_OPSETS = {"": range(18, 24), MICROSOFT: range(1, 2)}
_IR_VERSIONS = range(8, 12)
_MOST_DIMENSIONS = 8

_INSIDE = Field("a graph inside an operator", REFUSED)

_TYPED = Field("constants that are not plain bytes", REFUSED)
_TENSOR = {
    **dict.fromkeys((4, 5, 6, 7, 10, 11), _TYPED),
    13: Field("data outside the file", REFUSED),
    1: Field("dims", "int", _MOST_DIMENSIONS),
    2: Field("type", "int"),
    8: Field("name", "text"),
    9: Field("raw", "bytes"),
    14: Field("location", "int"),
}
_ATTRIBUTE = {
    1: Field("name", "text"),
    2: Field("f", "float"),
    3: Field("i", "int"),
    4: Field("s", "bytes"),
    5: Field("t", _TENSOR),
    8: Field("ints", "int", 64),
    20: Field("type", "int"),
    6: _INSIDE,
    11: _INSIDE,
}
_NODE = {
    1: Field("inputs", "text", 64),
    2: Field("outputs", "text", 64),
    3: Field("name", "text"),
    4: Field("operator", "text"),
    5: Field("attributes", _ATTRIBUTE, 32),
    7: Field("domain", "text"),
}
_DIMENSION = {1: Field("value", "int"), 2: Field("name", "text")}
_TENSOR_TYPE = {
    1: Field("type", "int"),
    2: Field("shape", {1: Field("dims", _DIMENSION, _MOST_DIMENSIONS)}),
}
_VALUE = {
    1: Field("name", "text"),
    2: Field("type", {1: Field("tensor", _TENSOR_TYPE)}),
    # Notes of torch's exporter.
    4: Field("notes", {1: Field("key", "text"), 2: Field("value", "text")}, 16),
}
_GRAPH = {
    1: Field("nodes", _NODE, CONFIG.max_tower_nodes),
    2: Field("name", "text"),
    5: Field("constants", _TENSOR, CONFIG.max_tower_nodes),
    11: Field("inputs", _VALUE, 2),
    12: Field("outputs", _VALUE, 2),
    15: Field("sparse constants", REFUSED),
}
_MODEL = {
    1: Field("ir_version", "int"),
    2: Field("producer_name", "text"),
    3: Field("producer_version", "text"),
    7: Field("graph", _GRAPH),
    8: Field("opsets", {1: Field("domain", "text"), 2: Field("version", "int")}, 4),
    25: Field("functions", REFUSED),
}
# The field that holds the value, by the number of the type.
_ATTRIBUTES = {1: "f", 2: "i", 3: "s", 4: "t", 7: "ints"}


@dataclass(frozen=True)
class Node:
    """A node: an operator with its inputs, outputs and attributes, where a tensor is an array."""

    operator: str
    domain: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Declared:
    """An input or output of a graph; None stands for an open dimension."""

    name: str
    type: int
    dimensions: tuple[int | None, ...] | None


@dataclass(frozen=True)
class OnnxModel:
    """A graph with its constants, which share memory with the bytes of the file."""

    nodes: list[Node]
    constants: dict[str, NDArray[Any]]
    # The types of the constants.
    types: dict[str, int]
    inputs: list[Declared]
    outputs: list[Declared]


def read_model(data: bytes) -> OnnxModel:
    """Read an ONNX file.

    Raises OnnxRefused, or another ValueError, for a file that is not one of our towers.
    """
    model = read(memoryview(data), _MODEL)
    if model.get("ir_version") not in _IR_VERSIONS:
        raise OnnxRefused("an unsupported version of ONNX")
    domains = [opset.get("domain", "") for opset in model["opsets"]]
    if len(set(domains)) != len(domains) or not all(
        opset.get("version") in _OPSETS.get(domain, ())
        for opset, domain in zip(model["opsets"], domains, strict=True)
    ):
        raise OnnxRefused("unsupported operator sets")
    graph = model.get("graph") or {"nodes": [], "constants": [], "inputs": [], "outputs": []}
    constants: dict[str, NDArray[Any]] = {}
    for tensor in graph["constants"]:
        name = tensor.get("name", "")
        if not name or name in constants:
            raise OnnxRefused("constants without unique names")
        constants[name] = _array(tensor)
    return OnnxModel(
        [_node(node) for node in graph["nodes"]],
        constants,
        {tensor["name"]: tensor["type"] for tensor in graph["constants"]},
        [_declared(value) for value in graph["inputs"]],
        [_declared(value) for value in graph["outputs"]],
    )


def _array(tensor: dict[str, Any]) -> NDArray[Any]:
    if tensor.get("location", 0) != 0:
        raise OnnxRefused("data outside the file")
    layout = TYPES.get(tensor.get("type", 0))
    if layout is None:
        raise OnnxRefused(f"constants of type {tensor.get('type')}")
    raw, shape = tensor.get("raw", b""), tuple(tensor["dims"])
    if min(shape, default=0) < 0 or math.prod(shape) * np.dtype(layout).itemsize != len(raw):
        raise OnnxRefused("a constant whose size differs from its data's")
    return np.frombuffer(raw, layout).reshape(shape)


def _node(node: dict[str, Any]) -> Node:
    attributes: dict[str, Any] = {}
    for attribute in node["attributes"]:
        name, field = attribute.get("name", ""), _ATTRIBUTES.get(attribute.get("type", 0))
        given = [each for each in _ATTRIBUTES.values() if attribute.get(each) not in (None, [])]
        if name in attributes or field is None or any(each != field for each in given):
            raise OnnxRefused("an attribute of an unexpected type")
        value = attribute.get(field, 0)
        if field == "s":
            value = bytes(value or b"")
        elif field == "t":
            value = _array(value) if value else None
        attributes[name] = value
    operator, domain = node.get("operator", ""), node.get("domain", "")
    return Node(operator, domain, node["inputs"], node["outputs"], attributes)


def _declared(value: dict[str, Any]) -> Declared:
    tensor = value.get("type", {}).get("tensor", {})
    shape = tensor.get("shape")
    dimensions = None
    if shape is not None:
        if any(len(dimension) > 1 for dimension in shape["dims"]):
            raise OnnxRefused("a dimension that has both a size and a name")
        dimensions = tuple(dimension.get("value") for dimension in shape["dims"])
    return Declared(value.get("name", ""), tensor.get("type", 0), dimensions)
