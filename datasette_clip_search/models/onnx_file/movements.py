"""Rules for operators that only move numbers, among them those that compute shapes."""

import math

import numpy as np

from .graph_model import FLOAT, INT64, TYPES
from .registry import rule_for
from .values import NodeCall, Value


@rule_for("Shape", (1, 1), "start end")
def _shape(call: NodeCall) -> Value:
    x = call.value(0)
    rank = len(x.shape)
    start, end = call.whole("start", 0), call.whole("end", rank)
    sizes = x.shape[slice(*slice(start, end).indices(rank))]
    return call.made([len(sizes)], INT64, sizes)


@rule_for("Size", (1, 1))
def _size(call: NodeCall) -> Value:
    return call.made([], INT64, call.value(0).count)


@rule_for("Reshape", (2, 2), "allowzero")
def _reshape(call: NodeCall) -> Value:
    x, shape = call.value(0), call.numbers(1)
    call.expect(shape.count(-1) <= 1 and min(shape, default=0) >= -1)
    if not call.whole("allowzero", 0):
        call.expect(all(size or at < len(x.shape) for at, size in enumerate(shape)))
        shape = [size or x.shape[at] for at, size in enumerate(shape)]
    if -1 in shape:
        others = -math.prod(shape)
        call.expect(others > 0 and x.count % others == 0)
        shape[shape.index(-1)] = x.count // others
    call.expect(math.prod(shape) == x.count)
    numbers = None if x.numbers is None else x.numbers.reshape(shape)
    return call.made(shape, numbers=numbers)


@rule_for("Squeeze", (1, 2))
def _squeeze(call: NodeCall) -> Value:
    x = call.value(0)
    rank = len(x.shape)
    given = [] if call.optional(1) is None else call.numbers(1)
    axes = {call.axis(axis, rank) for axis in given}
    if call.optional(1) is None:
        # The axes must not depend on the number of pictures or texts.
        call.expect(x.is_constant or (x.numbers is not None and rank == 1))
        axes = {axis for axis, size in enumerate(x.shape) if size == 1}
    call.expect(all(x.shape[axis] == 1 for axis in axes))
    shape = [size for axis, size in enumerate(x.shape) if axis not in axes]
    numbers = None if x.numbers is None else x.numbers.reshape(shape)
    return call.made(shape, numbers=numbers)


@rule_for("Unsqueeze", (2, 2))
def _unsqueeze(call: NodeCall) -> Value:
    x, given = call.value(0), call.numbers(1)
    rank = len(x.shape) + len(given)
    axes = {call.axis(axis, rank) for axis in given}
    call.expect(len(axes) == len(given))
    sizes = iter(x.shape)
    shape = [1 if axis in axes else next(sizes) for axis in range(rank)]
    numbers = None if x.numbers is None else x.numbers.reshape(shape)
    return call.made(shape, numbers=numbers)


@rule_for("Flatten", (1, 1), "axis")
def _flatten(call: NodeCall) -> Value:
    x = call.value(0)
    axis = call.axis(call.whole("axis", 1), len(x.shape) + 1)
    return call.made([math.prod(x.shape[:axis]), math.prod(x.shape[axis:])])


@rule_for("Transpose", (1, 1), "perm")
def _transpose(call: NodeCall) -> Value:
    x = call.value(0)
    order = call.wholes("perm", range(len(x.shape))[::-1])
    call.expect(sorted(order) == list(range(len(x.shape))))
    call.work += x.count
    return call.made([x.shape[axis] for axis in order])


@rule_for("Concat", (1, 64), "axis")
def _concat(call: NodeCall) -> Value:
    values = [call.value(place) for place in range(len(call.inputs))]
    first = values[0]
    axis = call.axis(call.whole("axis", 0), len(first.shape))
    for value in values:
        call.expect(len(value.shape) == len(first.shape) and value.type == first.type)
        call.expect(all(
            size == other for at, (size, other)
            in enumerate(zip(value.shape, first.shape, strict=True)) if at != axis
        ))  # fmt: skip
    shape = list(first.shape)
    shape[axis] = sum(value.shape[axis] for value in values)
    call.work += math.prod(shape)
    numbers = [value.numbers for value in values if value.numbers is not None]
    are_known = len(numbers) == len(values) and len(shape) == 1
    return call.made(
        shape,
        numbers=np.concatenate(numbers) if are_known else None,
    )


@rule_for("Split", (1, 2), "axis num_outputs")
def _split(call: NodeCall) -> list[Value]:
    x, count = call.value(0), len(call.node.outputs)
    axis = call.axis(call.whole("axis", 0), len(x.shape))
    if call.optional(1) is not None:
        sizes = call.numbers(1)
    else:
        call.expect(call.whole("num_outputs", count) == count and x.shape[axis] % count == 0)
        sizes = [x.shape[axis] // count] * count
    call.expect(len(sizes) == count and min(sizes) >= 0 and sum(sizes) == x.shape[axis])
    call.work += x.count
    return [call.made([*x.shape[:axis], size, *x.shape[axis + 1 :]]) for size in sizes]


@rule_for("Slice", (3, 5))
def _slice(call: NodeCall) -> Value:
    x, starts, ends = call.value(0), call.numbers(1), call.numbers(2)
    given = call.optional(3) is not None
    axes = call.numbers(3) if given else list(range(len(starts)))
    steps = call.numbers(4) if call.optional(4) is not None else [1] * len(starts)
    call.expect(len(starts) == len(ends) == len(axes) == len(steps) and 0 not in steps)
    axes = [call.axis(axis, len(x.shape)) for axis in axes]
    call.expect(len(set(axes)) == len(axes))
    shape, numbers = list(x.shape), x.numbers
    for axis, *parts in zip(axes, starts, ends, steps, strict=True):
        start, end, step = parts
        # A backward slice to before the first element: -1 would mean the last one.
        stop = None if step < 0 and end < -x.shape[axis] else end
        chosen = slice(start, stop, step)
        shape[axis] = len(range(*chosen.indices(x.shape[axis])))
        if numbers is not None:
            numbers = numbers[(*[slice(None)] * axis, chosen)]
    call.work += math.prod(shape)
    return call.made(shape, numbers=numbers)


@rule_for("Gather", (2, 2), "axis")
def _gather(call: NodeCall) -> Value:
    x, places = call.value(0), call.value(1)
    axis = call.axis(call.whole("axis", 0), len(x.shape))
    call.expect(places.type == INT64)
    shape = [*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]]
    call.work += math.prod(shape)
    if x.numbers is None or places.numbers is None or axis:
        return call.made(shape)
    call.expect(bool((np.abs(places.numbers + 0.5) < x.shape[0]).all()))
    return call.made(shape, numbers=x.numbers[places.numbers])


@rule_for("GatherElements", (2, 2), "axis")
def _gather_elements(call: NodeCall) -> Value:
    x, places = call.value(0), call.value(1)
    axis = call.axis(call.whole("axis", 0), len(x.shape))
    call.expect(len(places.shape) == len(x.shape) and places.type == INT64)
    call.expect(all(
        size <= other for at, (size, other)
        in enumerate(zip(places.shape, x.shape, strict=True)) if at != axis
    ))  # fmt: skip
    call.work += places.count
    return call.made(places.shape)


@rule_for("GatherND", (2, 2), "batch_dims")
def _gather_nd(call: NodeCall) -> Value:
    x, places, batch = call.value(0), call.value(1), call.whole("batch_dims", 0)
    rank = min(len(x.shape), len(places.shape))
    call.expect(0 <= batch < rank and places.type == INT64)
    call.expect(x.shape[:batch] == places.shape[:batch])
    depth = places.shape[-1]
    call.expect(0 < depth <= len(x.shape) - batch)
    shape = [*places.shape[:-1], *x.shape[batch + depth :]]
    call.work += math.prod(shape)
    return call.made(shape)


@rule_for("Expand", (2, 2))
def _expand(call: NodeCall) -> Value:
    x = call.value(0)
    try:
        shape = np.broadcast_shapes(x.shape, tuple(call.numbers(1)))
    except ValueError:
        call.expect(False)
        raise
    call.work += math.prod(shape)
    return call.made(shape)


@rule_for("Tile", (2, 2))
def _tile(call: NodeCall) -> Value:
    x, times = call.value(0), call.numbers(1)
    call.expect(len(times) == len(x.shape) and min(times, default=0) >= 0)
    shape = [size * time for size, time in zip(x.shape, times, strict=True)]
    call.work += math.prod(shape)
    return call.made(shape)


@rule_for("ConstantOfShape", (1, 1), "value")
def _constant_of_shape(call: NodeCall) -> Value:
    value = call.node.attributes.get("value")
    call.expect(value is None or (isinstance(value, np.ndarray) and value.shape == (1,)))
    shape = call.numbers(0)
    call.work += math.prod(shape)
    kind = FLOAT if value is None else _type_of(value)
    return call.made(shape, kind)


def _type_of(array: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> int:
    return next(number for number, layout in TYPES.items() if np.dtype(layout) == array.dtype)


@rule_for("Range", (3, 3))
def _range(call: NodeCall) -> Value:
    [start], [limit], [step] = (call.numbers(at) for at in range(3))
    call.expect(step != 0)
    count = len(range(start, limit, step))
    call.work += count
    numbers = None if count > 64 else np.arange(start, limit, step)
    return call.made([count], INT64, numbers)
