"""Rules for operators on pictures: convolution, pooling, resizing and padding."""

import math

import numpy as np

from .graph_model import FLOAT
from .registry import rule_for
from .values import NodeCall, Value

_WINDOW = "auto_pad dilations kernel_shape pads strides"


def _window(call: NodeCall, kernel: list[int]) -> tuple[int, ...]:
    """Return the size of the output of a window that moves over a picture."""
    x = call.value(0)
    sides = len(kernel)
    call.expect(sides == len(x.shape) - 2 and sides in (1, 2) and min(kernel) > 0)
    call.expect(call.text("auto_pad", "NOTSET") == "NOTSET")
    strides, dilations = (call.wholes(name, [1] * sides) for name in ("strides", "dilations"))
    pads = call.wholes("pads", [0] * (2 * sides))
    call.expect(len(strides) == len(dilations) == sides and len(pads) == 2 * sides)
    call.expect(min(*strides, *dilations) > 0 and min(pads) >= 0)
    call.expect(max(*strides, *dilations, *pads) <= 1024)
    rounding = math.ceil if call.whole("ceil_mode", 0) else math.floor
    sizes = []
    for side in range(sides):
        # No exporter writes a window that is wholly outside the picture.
        reach = dilations[side] * (kernel[side] - 1) + 1
        call.expect(max(pads[side], pads[sides + side]) < reach)
        room = x.shape[2 + side] + pads[side] + pads[sides + side] - reach
        call.expect(room >= 0)
        sizes.append(rounding(room / strides[side]) + 1)
    return tuple(sizes)


@rule_for("Conv", (2, 3), f"group {_WINDOW}")
def _convolution(call: NodeCall) -> Value:
    x, weights, groups = call.value(0), call.constant(1), call.whole("group", 1)
    call.expect(len(x.shape) == len(weights.shape) and groups > 0 and len(x.shape) > 2)
    kernel = list(weights.shape[2:])
    call.expect(call.wholes("kernel_shape", kernel) == kernel)
    call.expect(weights.shape[0] % groups == 0 and weights.shape[1] * groups == x.shape[1])
    if bias := call.optional(2):
        call.expect(bias.is_constant and bias.shape == weights.shape[:1])
    shape = (x.shape[0], weights.shape[0], *_window(call, kernel))
    window = math.prod(weights.shape[1:])
    call.work += math.prod(shape) * window
    call.scratch += 4 * window * math.prod(shape[2:])
    return call.made(shape)


@rule_for("AveragePool MaxPool", (1, 1), f"ceil_mode count_include_pad storage_order {_WINDOW}")
def _pooled(call: NodeCall) -> Value:
    x = call.value(0)
    call.expect(len(x.shape) > 2 and call.whole("storage_order", 0) == 0)
    kernel = call.wholes("kernel_shape", [])
    call.expect(bool(kernel))
    shape = (*x.shape[:2], *_window(call, kernel))
    call.work += math.prod(shape) * math.prod(kernel)
    return call.made(shape)


@rule_for("GlobalAveragePool", (1, 1))
def _pooled_whole(call: NodeCall) -> Value:
    x = call.value(0)
    call.expect(len(x.shape) > 2)
    call.work += x.count
    return call.made((*x.shape[:2], *[1] * (len(x.shape) - 2)))


@rule_for("Resize", (3, 4), " ".join((
    "antialias coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value",
    "keep_aspect_ratio_policy mode nearest_mode",
)))  # fmt: skip
def _resized(call: NodeCall) -> Value:
    x = call.value(0)
    call.expect(call.optional(1) is None or call.value(1).count == 0)
    call.expect(call.text("keep_aspect_ratio_policy", "stretch") == "stretch")
    call.expect(len(x.shape) == 4)
    if call.optional(3) is not None:
        call.expect(call.optional(2) is None or call.value(2).count == 0)
        shape = call.numbers(3)
    else:
        scales = call.constant(2).numbers
        call.expect(scales is not None and scales.shape == (4,) and call.value(2).type == FLOAT)
        assert scales is not None
        call.expect(bool(np.isfinite(scales).all()) and scales.min() > 0 and scales.max() <= 64)
        shape = [math.floor(size * scale) for size, scale in zip(x.shape, scales, strict=True)]
    call.expect(shape[:2] == list(x.shape[:2]) and min(shape) > 0 and x.count > 0)
    call.work += (math.prod(shape) + x.count) * 64
    call.scratch += 4 * (math.prod(shape) + x.count)
    return call.made(shape)


@rule_for("Pad", (2, 4), "mode")
def _padded(call: NodeCall) -> Value:
    x, pads = call.value(0), call.numbers(1)
    rank = len(x.shape)
    call.expect(len(pads) == 2 * rank and call.optional(3) is None)
    # The other modes add parts of the picture, and can't add more than it has.
    call.expect(call.text("mode", "constant") == "constant")
    shape = [size + pads[at] + pads[rank + at] for at, size in enumerate(x.shape)]
    call.work += math.prod(shape)
    return call.made(shape)
