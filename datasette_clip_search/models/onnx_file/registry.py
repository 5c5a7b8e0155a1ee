"""The operators that our towers may contain, each with a rule for its outputs and its cost.

They are the operators of the graphs built here, and those that torch's exporter writes for
OpenCLIP's model families. None of them repeats or branches, keeps state, or reads anything else.
"""

from collections.abc import Callable
from dataclasses import dataclass

from .values import NodeCall, Value
from .wire import OnnxRefused

Rule = Callable[[NodeCall], Value | list[Value]]


@dataclass(frozen=True)
class Operator:
    """The number of inputs that an operator may have, its attributes, and its rule."""

    inputs: range
    attributes: frozenset[str]
    rule: Rule


OPERATORS: dict[tuple[str, str], Operator] = {}
"""By domain and name. The modules that define rules fill it when they are imported."""


def rule_for(
    names: str, inputs: tuple[int, int], attributes: str = "", domain: str = ""
) -> Callable[[Rule], Rule]:
    """Decorate the rule of some operators; `names` and `attributes` are separated by spaces.

    `inputs` are the least and the most inputs.
    """

    def add(rule: Rule) -> Rule:
        for name in names.split():
            OPERATORS[domain, name] = Operator(
                range(inputs[0], inputs[1] + 1), frozenset(attributes.split()), rule
            )
        return rule

    return add


def unknown_operator(name: str) -> OnnxRefused:
    """Return the error for an operator that is not registered."""
    is_name = name.isascii() and name.isidentifier() and len(name) <= 40
    return OnnxRefused(f"the operator {name}" if is_name else "an operator without a proper name")
