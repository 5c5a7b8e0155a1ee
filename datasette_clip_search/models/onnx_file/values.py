"""Tensors before a graph runs: their shapes, and the numbers that other shapes depend on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .graph_model import INT64, TYPES, Node, Shape
from .wire import OnnxRefused

# Shapes have few numbers; longer tensors are not followed.
MOST_KNOWN = 64
_MOST_DIMENSIONS = 8
# Larger sizes are refused elsewhere; these can still be multiplied and added in int64.
_LARGEST = 1 << 40


@dataclass(frozen=True)
class Value:
    """A tensor. `numbers` are its elements where another tensor's shape may depend on them.

    An `is_constant` tensor depends on constants alone: ONNX Runtime computes it once.
    """

    shape: Shape
    type: int
    numbers: NDArray[Any] | None = None
    is_constant: bool = False

    @property
    def count(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """The bytes that the tensor takes in memory."""
        return self.count * np.dtype(TYPES[self.type]).itemsize


class NodeCall:
    """A node with its inputs. A rule adds the cost to it."""

    def __init__(self, node: Node, inputs: list[Value | None]):
        self.node = node
        self.inputs = inputs
        # Multiplications, or operations that take as long.
        self.work = 0
        # Bytes that the node takes while it runs.
        self.scratch = 0

    def value(self, place: int) -> Value:
        """Return a required input."""
        value = self.optional(place)
        if value is None:
            raise OnnxRefused(f"{self.node.operator} without an input")
        return value

    def optional(self, place: int) -> Value | None:
        """Return an optional input, or None where it is left out."""
        return self.inputs[place] if place < len(self.inputs) else None

    def constant(self, place: int) -> Value:
        """Return an input that must not depend on the graph's own inputs."""
        value = self.value(place)
        self.expect(value.is_constant)
        return value

    def numbers(self, place: int) -> list[int]:
        """Return the integers of an input that must be known: sizes, axes or positions."""
        value = self.value(place)
        if value.numbers is None or value.type != INT64:
            raise OnnxRefused(f"{self.node.operator} with numbers unknown before it runs")
        return [int(number) for number in value.numbers.ravel()]

    def whole(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        return int(self._attribute(name, int, default))

    def wholes(self, name: str, default: Sequence[int]) -> list[int]:
        """Return an attribute that is a list of integers."""
        return list(self._attribute(name, list, list(default)))

    def text(self, name: str, default: str) -> str:
        """Return a text attribute."""
        text: bytes = self._attribute(name, bytes, default.encode())
        return text.decode("ascii", "replace")

    def _attribute(self, name: str, kind: type, default: Any) -> Any:
        value = self.node.attributes.get(name, default)
        self.expect(isinstance(value, kind))
        return value

    def expect(self, is_so: bool) -> None:
        """Refuse the node unless the condition holds."""
        if not is_so:
            raise OnnxRefused(f"{self.node.operator} with unexpected shapes or settings")

    def axis(self, axis: int, rank: int) -> int:
        """Return an axis as a number from 0; a negative one counts from the last."""
        self.expect(-rank <= axis < rank)
        return axis % rank

    def made(self, shape: Sequence[int], type: int | None = None, numbers: Any = None) -> Value:
        """Return an output, which has the first input's type unless another is given."""
        self.expect(len(shape) <= _MOST_DIMENSIONS and min(shape, default=0) >= 0)
        self.expect(math.prod(shape) < _LARGEST)
        given = [value for value in self.inputs if value is not None]
        kind = self.value(0).type if type is None else type
        if numbers is not None:
            numbers = np.asarray(numbers, TYPES[kind])
            in_bounds = kind != INT64 or bool((np.abs(numbers) < _LARGEST).all())
            self.expect(numbers.shape == tuple(shape) and in_bounds)
            numbers = numbers if numbers.size <= MOST_KNOWN else None
        is_constant = all(each.is_constant for each in given)
        return Value(tuple(map(int, shape)), kind, numbers, is_constant)


def broadcast(call: NodeCall, *values: Value) -> Shape:
    """Return the shape of values that are broadcast together."""
    try:
        return np.broadcast_shapes(*(value.shape for value in values))
    except ValueError:
        call.expect(False)
        raise
