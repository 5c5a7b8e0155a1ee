"""A builder of ONNX graphs whose weights take 8, 16 or 32 bits.

In 8 bits, a matrix has a scale for every few weights of an output (ONNX Runtime's MatMulNBits).
Activations have scales too while they are multiplied, each row its own: with one scale per tensor,
a text's vector would depend on the others in its batch. Embeddings of tokens have a scale for each
token.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]

MICROSOFT = "com.microsoft"
# LayerNormalization came with opset 17, which every release of ONNX Runtime in use has.
OPSET, IR_VERSION = 18, 9
BITS = (8, 16, 32)

# How many weights share a scale: the first of these numbers that divides a matrix's rows.
_BLOCKS = (64, 32, 16)
# The accuracy level of MatMulNBits that multiplies activations as 8-bit integers.
_IN_INTEGERS = 4


class GraphBuilder:
    """The nodes and constants of a new graph, numbered in their order."""

    def __init__(self, bits: int):
        self.bits = bits
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        name = f"own_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(operator, list(inputs), [name], domain=domain, **attributes)
        )
        return name

    def constant(self, value: Array) -> str:
        """Add a constant, and return its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def product(self, x: str, matrix: Array, bias: Array | None = None) -> str:
        """Add x @ matrix + bias, for a matrix (in, out), float32, and a bias (out,)."""
        if self.bits == 8:
            return self._integer_product(x, matrix, bias)
        if self.bits == 16:
            weights = self._widened(self.constant(_halves(matrix)))
        else:
            weights = self.constant(matrix.astype(np.float32))
        product = self.add("MatMul", x, weights)
        return product if bias is None else self.add("Add", product, self.constant(bias))

    def _integer_product(self, x: str, matrix: Array, bias: Array | None) -> str:
        rows, columns = matrix.shape
        block = next((size for size in _BLOCKS if rows % size == 0), _BLOCKS[-1])
        blocks = -(-rows // block)
        padded = np.zeros((columns, blocks * block), np.float32)
        padded[:, :rows] = matrix.T
        integers, scales = _integers(padded.reshape(columns, blocks, block))
        # Unsigned, around 128.
        inputs = [x, self.constant((integers + np.int16(128)).astype(np.uint8))]
        inputs.append(self.constant(scales.reshape(columns, blocks)))
        if bias is not None:
            inputs += ["", "", self.constant(bias)]
        return self.add(
            "MatMulNBits", *inputs, domain=MICROSOFT, K=rows, N=columns, bits=8,
            block_size=block, accuracy_level=_IN_INTEGERS,
        )  # fmt: skip

    def rows(self, table: Array, numbers: str) -> str:
        """Add a lookup of rows of a table (n, d), float32, by their numbers, in any shape."""
        if self.bits == 8:
            integers, scales = _integers(table)
            rows = self._widened(self.add("Gather", self.constant(integers), numbers))
            return self.add("Mul", rows, self.add("Gather", self.constant(scales), numbers))
        if self.bits == 16:
            return self._widened(self.add("Gather", self.constant(_halves(table)), numbers))
        return self.add("Gather", self.constant(table.astype(np.float32)), numbers)

    def kernel(self, weights: Array) -> str:
        """Add the weights of a convolution (out, in, …), float32, with a scale for each output."""
        if self.bits == 8:
            integers, scales = _integers(weights.reshape(len(weights), -1))
            integers, scales = (
                integers.reshape(weights.shape),
                scales.reshape(-1, *[1] * (weights.ndim - 1)),
            )
            return self.add("Mul", self._widened(self.constant(integers)), self.constant(scales))
        if self.bits == 16:
            return self._widened(self.constant(_halves(weights)))
        return self.constant(weights.astype(np.float32))

    def model(self, given: Any, features: Any, opsets: Iterable[Any] = ()) -> Any:
        """Return the model with this input and output, two ValueInfoProtos.

        `opsets` are those of nodes that were not added here.
        """
        graph = helper.make_graph(self.nodes, "tower", [given], [features], self.constants)
        others = [opset for opset in opsets if opset.domain != MICROSOFT]
        opsets = others or [helper.make_opsetid("", OPSET)]
        opsets = [*opsets, helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)

    def _widened(self, name: str) -> str:
        return self.add("Cast", name, to=onnx.TensorProto.FLOAT)


def _integers(values: Array) -> tuple[Array, Array]:
    """Return int8 values and float32 scales, one for each run along the last axis."""
    largest = np.abs(values).max(axis=-1, keepdims=True)
    scales = (np.where(largest > 0, largest, 127) / 127).astype(np.float32)
    return np.clip(np.rint(values / scales), -127, 127).astype(np.int8), scales


def _halves(values: Array) -> Array:
    largest = np.finfo(np.float16).max
    return np.clip(values, -largest, largest).astype(np.float16)
