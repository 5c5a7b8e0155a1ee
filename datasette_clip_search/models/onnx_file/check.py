"""The cost of a graph before it runs: memory and work for inputs of some shapes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ...common.config import CONFIG
from . import movements, operators, windows
from .graph_model import Node, OnnxModel, Shape
from .registry import OPERATORS, unknown_operator
from .values import MOST_KNOWN, NodeCall, Value
from .wire import OnnxRefused

# Importing them registers their operators.
_RULES = movements, operators, windows


@dataclass(frozen=True)
class Cost:
    """The cost of a run.

    `bytes` is the peak of memory besides the weights, `work` the number of multiplications, and
    `largest` the most that one node does. `folded` are the bytes of values that depend on constants
    alone: ONNX Runtime computes them once and keeps them.
    """

    bytes: int
    work: int
    largest: int
    folded: int
    outputs: tuple[Shape, ...]


class CostModel:
    """Estimates the cost of a graph from shapes alone, without its weights."""

    def __init__(self, model: OnnxModel):
        self._nodes = model.nodes
        self._wanted = [output.name for output in model.outputs]
        self._constants = {
            name: Value(
                array.shape,
                model.types[name],
                array.copy() if array.size <= MOST_KNOWN else None,
                is_constant=True,
            )
            for name, array in model.constants.items()
        }
        self._weights = sum(4 * value.count for value in self._constants.values())

    def cost(self, inputs: Mapping[str, tuple[Shape, int]]) -> Cost:
        """Return what a run of the graph costs for inputs of these shapes and types.

        Raises OnnxRefused for an operator, a setting or a shape that none of our towers has.
        """
        # Shapes beyond every limit, or without elements, break a rule's arithmetic.
        try:
            return self._cost(inputs)
        except (ValueError, OverflowError, ArithmeticError, LookupError, TypeError) as error:
            if isinstance(error, OnnxRefused):
                raise
            raise OnnxRefused("broken shapes") from error

    def fits(self, cost: Cost, count: int) -> bool:
        """Return whether a run with this cost, of `count` texts or pictures, is within the limits.

        Raises OnnxRefused for a graph that is beyond them with any number.
        """
        if cost.folded > 4 * self._weights + CONFIG.max_tower_working_bytes // 4:
            raise OnnxRefused("computed constants larger than its weights")
        return (
            cost.bytes <= CONFIG.max_tower_working_bytes
            and cost.largest <= CONFIG.max_tower_node_work
            and cost.work <= CONFIG.max_tower_work * count
        )

    def _cost(self, inputs: Mapping[str, tuple[Shape, int]]) -> Cost:
        known = dict(self._constants)
        for name, (shape, kind) in inputs.items():
            _add(known, name, Value(shape, kind))
        uses = Counter(name for node in self._nodes for name in node.inputs) + Counter(self._wanted)
        live = sum(known[name].bytes for name in inputs)
        most, work, largest, folded, folding = live, 0, 0, 0, 0
        for node in self._nodes:
            call = NodeCall(node, [known[name] if name else None for name in _inputs(node, known)])
            made = _made(call)
            work += call.work
            largest = max(largest, call.work)
            if all(value.is_constant for value in made):
                # None of our towers multiplies constants with each other.
                folded += sum(value.bytes for value in made) + call.scratch
                folding += call.work
                if folding > CONFIG.max_tower_folding_work:
                    raise OnnxRefused(f"{node.operator} of constants alone")
            else:
                live += sum(value.bytes for value in made)
                most = max(most, live + call.scratch)
            for name, value in zip(node.outputs, made, strict=True):
                _add(known, name, value)
            for name in node.inputs:
                uses[name] -= 1
                if name and not uses[name] and not known[name].is_constant:
                    live -= known[name].bytes
        if not set(self._wanted) <= set(known):
            raise OnnxRefused("an output that no node makes")
        shapes = tuple(known[name].shape for name in self._wanted)
        return Cost(most, work, largest, folded, shapes)


def _inputs(node: Node, known: Mapping[str, Value]) -> list[str]:
    if any(name and name not in known for name in node.inputs):
        raise OnnxRefused(f"{node.operator} before its inputs")
    return node.inputs


def _made(call: NodeCall) -> list[Value]:
    node = call.node
    operator = OPERATORS.get((node.domain, node.operator))
    if operator is None:
        raise unknown_operator(node.operator)
    if len(node.inputs) not in operator.inputs or not set(node.attributes) <= operator.attributes:
        raise OnnxRefused(f"{node.operator} with unexpected inputs or settings")
    made = operator.rule(call)
    values = made if isinstance(made, list) else [made]
    if len(values) != len(node.outputs):
        raise OnnxRefused(f"{node.operator} with unexpected outputs")
    return values


def _add(known: dict[str, Value], name: str, value: Value) -> None:
    if not name or name in known:
        raise OnnxRefused("two values with one name")
    known[name] = value
