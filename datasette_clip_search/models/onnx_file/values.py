"""What is known of a tensor before a graph runs: its shape, and numbers that shapes may need."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .graph_model import INT64, TYPES, Node, Shape
from .wire import OnnxRefused

# Shapes have few numbers; more are not followed.
MOST_KNOWN = 64
_MOST_DIMENSIONS = 8
# Any size beyond it is refused elsewhere; so much can be multiplied and added in int64 still.
_LARGEST = 1 << 40


@dataclass(frozen=True)
class Value:
    """A tensor, of which `numbers` are known where they may be the sizes of another.

    `is_constant` tells that it depends on constants alone, so that ONNX Runtime computes it once.
    """

    shape: Shape
    type: int
    numbers: NDArray[Any] | None = None
    is_constant: bool = False

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        return self.count * np.dtype(TYPES[self.type]).itemsize


class NodeCall:
    """A node with its inputs, to which a rule adds what it costs."""

    def __init__(self, node: Node, inputs: list[Value | None]):
        self.node = node
        self.inputs = inputs
        # Multiplications, or what takes as long.
        self.work = 0
        # Bytes that it takes while it runs.
        self.scratch = 0

    def value(self, place: int) -> Value:
        """Returns an input that must be there."""
        value = self.optional(place)
        if value is None:
            raise OnnxRefused(f"{self.node.operator} without an input")
        return value

    def optional(self, place: int) -> Value | None:
        """Returns an input, or None where it is left out."""
        return self.inputs[place] if place < len(self.inputs) else None

    def constant(self, place: int) -> Value:
        """Returns an input that must not depend on what the graph is given."""
        value = self.value(place)
        self.expect(value.is_constant)
        return value

    def numbers(self, place: int) -> list[int]:
        """Returns whole numbers that must be known: sizes, axes or places."""
        value = self.value(place)
        if value.numbers is None or value.type != INT64:
            raise OnnxRefused(f"{self.node.operator} by numbers that are not known before it runs")
        return [int(number) for number in value.numbers.ravel()]

    def whole(self, name: str, default: int) -> int:
        """Returns an attribute that is a whole number."""
        return int(self._attribute(name, int, default))

    def wholes(self, name: str, default: Sequence[int]) -> list[int]:
        """Returns an attribute that is several whole numbers."""
        return list(self._attribute(name, list, list(default)))

    def text(self, name: str, default: str) -> str:
        """Returns an attribute that is a text."""
        text: bytes = self._attribute(name, bytes, default.encode())
        return text.decode("ascii", "replace")

    def _attribute(self, name: str, kind: type, default: Any) -> Any:
        value = self.node.attributes.get(name, default)
        self.expect(isinstance(value, kind))
        return value

    def expect(self, is_so: bool) -> None:
        """Refuses the node unless it is so."""
        if not is_so:
            raise OnnxRefused(f"{self.node.operator} of other shapes or settings")

    def axis(self, axis: int, rank: int) -> int:
        """Returns an axis counted from the first."""
        self.expect(-rank <= axis < rank)
        return axis % rank

    def made(self, shape: Sequence[int], type: int | None = None, numbers: Any = None) -> Value:
        """Returns an output; of the first input's type unless another one is given."""
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
    """Returns the shape of values of which each is repeated along the others' dimensions."""
    try:
        return np.broadcast_shapes(*(value.shape for value in values))
    except ValueError:
        call.expect(False)
        raise
