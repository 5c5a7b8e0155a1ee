"""Rules for operators that compute: elementwise, normalisation, products, attention, reduction."""

import math

import numpy as np

from .graph_model import BOOL, FLOAT, INT8, INT32, INT64, MICROSOFT, TYPES, UINT8
from .registry import rule_for
from .values import NodeCall, Value, broadcast

# An exponential takes as long as this many multiplications.
_SLOW = 16


@rule_for("Abs Erf Exp IsNaN Log Neg Not Reciprocal Relu Sigmoid Sqrt Tanh", (1, 1))
@rule_for("Gelu", (1, 1), "approximate")
@rule_for("Softmax", (1, 1), "axis")
@rule_for("HardSigmoid", (1, 1), "alpha beta")
@rule_for("HardSwish Identity", (1, 1))
@rule_for("LeakyRelu", (1, 1), "alpha")
@rule_for("Gelu", (1, 1), domain=MICROSOFT)
@rule_for("FastGelu", (1, 2), domain=MICROSOFT)
@rule_for("QuickGelu", (1, 1), "alpha", domain=MICROSOFT)
def _each(call: NodeCall) -> Value:
    x = call.value(0)
    call.work += x.count * _SLOW
    call.expect(call.text("approximate", "none") in ("none", "tanh"))
    if call.node.operator in ("IsNaN", "Not"):
        return call.made(x.shape, BOOL)
    numbers = x.numbers if call.node.operator == "Identity" else None
    return call.made(x.shape, numbers=numbers)


@rule_for("Add Div Max Min Mod Mul Pow Sub", (2, 2))
@rule_for("And Equal Greater GreaterOrEqual Less LessOrEqual Or", (2, 2))
def _both(call: NodeCall) -> Value:
    a, b = call.value(0), call.value(1)
    shape = broadcast(call, a, b)
    call.work += math.prod(shape) * (_SLOW if call.node.operator == "Pow" else 1)
    if call.node.operator in _COMPARISONS:
        return call.made(shape, BOOL)
    function = {"Add": np.add, "Mul": np.multiply, "Sub": np.subtract}.get(call.node.operator)
    if function is None or a.numbers is None or b.numbers is None or {a.type, b.type} != {INT64}:
        return call.made(shape)
    return call.made(shape, numbers=function(a.numbers, b.numbers))


_COMPARISONS = {"And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Or"}


@rule_for("Where", (3, 3))
def _where(call: NodeCall) -> Value:
    shape = broadcast(call, *(call.value(place) for place in range(3)))
    call.work += math.prod(shape)
    return call.made(shape, call.value(1).type)


@rule_for("Clip", (1, 3))
def _clip(call: NodeCall) -> Value:
    for place in (1, 2):
        bound = call.optional(place)
        call.expect(bound is None or bound.count == 1)
    call.work += call.value(0).count
    return call.made(call.value(0).shape)


@rule_for("Cast", (1, 1), "to")
def _cast(call: NodeCall) -> Value:
    x, to = call.value(0), call.whole("to", 0)
    call.expect(to in TYPES)
    call.work += x.count
    is_whole = {x.type, to} <= {INT32, INT64}
    return call.made(x.shape, to, x.numbers if is_whole else None)


@rule_for("LayerNormalization", (2, 3), "axis epsilon stash_type")
@rule_for("BatchNormalization", (5, 5), "epsilon momentum")
@rule_for("InstanceNormalization", (3, 3), "epsilon")
def _normalised(call: NodeCall) -> Value:
    x = call.value(0)
    axis = call.axis(call.whole("axis", -1), len(x.shape))
    wanted = x.shape[axis:] if call.node.operator == "LayerNormalization" else x.shape[1:2]
    for place in range(1, len(call.inputs)):
        call.expect(call.value(place).shape == wanted)
    call.work += x.count * _SLOW
    return call.made(x.shape)


@rule_for("QuantizeLinear DequantizeLinear", (2, 3), "axis")
def _scaled(call: NodeCall) -> Value:
    x, scale = call.value(0), call.constant(1)
    axis = call.axis(call.whole("axis", 0), max(len(x.shape), 1))
    call.expect(scale.type == FLOAT and scale.shape in ((), x.shape[axis : axis + 1]))
    zero = call.optional(2)
    call.expect(zero is None or (zero.is_constant and zero.shape == scale.shape))
    call.work += x.count
    if call.node.operator == "DequantizeLinear":
        call.expect(x.type in (UINT8, INT8, INT32))
        return call.made(x.shape, FLOAT)
    call.expect(zero is None or zero.type in (UINT8, INT8))
    return call.made(x.shape, zero.type if zero else UINT8)


@rule_for("MatMul", (2, 2))
def _product(call: NodeCall) -> Value:
    a, b = call.value(0), call.value(1)
    call.expect(min(len(a.shape), len(b.shape)) >= 2 and a.shape[-1] == b.shape[-2])
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        call.expect(False)
        raise
    shape = (*batch, a.shape[-2], b.shape[-1])
    call.work += math.prod(shape) * a.shape[-1]
    return call.made(shape)


@rule_for("Gemm", (2, 3), "alpha beta transA transB")
def _gemm(call: NodeCall) -> Value:
    a, b = call.value(0), call.value(1)
    call.expect(len(a.shape) == len(b.shape) == 2)
    rows, inner = a.shape[:: -1 if call.whole("transA", 0) else 1]
    inner_too, columns = b.shape[:: -1 if call.whole("transB", 0) else 1]
    call.expect(inner == inner_too)
    if bias := call.optional(2):
        call.expect(bias.shape in ((), (1,), (columns,), (1, columns), (rows, columns)))
    call.work += rows * inner * columns
    return call.made((rows, columns))


@rule_for("MatMulNBits", (3, 6), "K N bits block_size accuracy_level", domain=MICROSOFT)
def _product_of_bits(call: NodeCall) -> Value:
    x, weights, scales = call.value(0), call.constant(1), call.constant(2)
    inner, columns, block = (call.whole(name, 0) for name in ("K", "N", "block_size"))
    call.expect(call.whole("bits", 0) == 8 and block in (16, 32, 64, 128, 256))
    call.expect(call.whole("accuracy_level", 0) in range(5))
    call.expect(inner > 0 and columns > 0 and x.shape[-1:] == (inner,) and x.type == FLOAT)
    blocks = -(-inner // block)
    call.expect(weights.shape == (columns, blocks, block) and weights.type == UINT8)
    call.expect(scales.shape == (columns, blocks) and scales.type == FLOAT)
    call.expect(call.optional(3) is None and call.optional(4) is None)
    if bias := call.optional(5):
        call.expect(bias.is_constant and bias.shape == (columns,) and bias.type == FLOAT)
    call.work += math.prod(x.shape[:-1]) * blocks * block * columns
    call.scratch += 2 * x.bytes
    return call.made((*x.shape[:-1], columns))


@rule_for("MatMulIntegerToFloat", (4, 7), domain=MICROSOFT)
def _product_of_integers(call: NodeCall) -> Value:
    x, weights, scale, scales = call.value(0), *(call.constant(place) for place in (1, 2, 3))
    call.expect(len(weights.shape) == 2 and x.shape[-1:] == weights.shape[:1])
    call.expect({x.type, weights.type} <= {UINT8, INT8} and {scale.type, scales.type} == {FLOAT})
    columns = weights.shape[1]
    call.expect(scale.count == 1 and scales.shape in ((), (1,), (columns,)))
    if zero := call.optional(4):
        call.expect(zero.is_constant and zero.count == 1 and zero.type == x.type)
    if zeros := call.optional(5):
        call.expect(zeros.is_constant and zeros.shape == scales.shape)
        call.expect(zeros.type == weights.type)
    if bias := call.optional(6):
        call.expect(bias.shape == (columns,) and bias.type == FLOAT)
    shape = (*x.shape[:-1], columns)
    call.work += math.prod(shape) * weights.shape[0]
    return call.made(shape, FLOAT)


@rule_for("MultiHeadAttention", (3, 3), "num_heads unidirectional", domain=MICROSOFT)
def _attention(call: NodeCall) -> Value:
    queries, keys, values = (call.value(place) for place in range(3))
    heads = call.whole("num_heads", 0)
    call.expect(len(queries.shape) == 3 and keys.shape == values.shape)
    call.expect({queries.type, keys.type, values.type} == {FLOAT} and heads > 0)
    batch, length, width = queries.shape
    call.expect(width % heads == 0 and width > 0 and len(keys.shape) == 3)
    call.expect((keys.shape[0], keys.shape[2]) == (batch, width))
    cells = batch * heads * length * keys.shape[1]
    call.scratch += 4 * (2 * cells + 3 * max(queries.count, keys.count))
    call.work += 2 * batch * length * keys.shape[1] * width + cells * _SLOW
    return call.made(queries.shape)


@rule_for(
    "ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum", (1, 2), "keepdims noop_with_empty_axes"
)
def _reduced(call: NodeCall) -> Value:
    x = call.value(0)
    given = [] if call.optional(1) is None else call.numbers(1)
    call.expect(bool(given) or not call.whole("noop_with_empty_axes", 0))
    axes = {call.axis(axis, len(x.shape)) for axis in given} or set(range(len(x.shape)))
    call.work += x.count
    if call.whole("keepdims", 1):
        return call.made([1 if axis in axes else size for axis, size in enumerate(x.shape)])
    return call.made([size for axis, size in enumerate(x.shape) if axis not in axes])


@rule_for("ArgMax", (1, 1), "axis keepdims select_last_index")
def _place(call: NodeCall) -> Value:
    x = call.value(0)
    axis = call.axis(call.whole("axis", 0), len(x.shape))
    kept = [1] if call.whole("keepdims", 1) else []
    call.expect(x.shape[axis] > 0)
    call.work += x.count
    return call.made([*x.shape[:axis], *kept, *x.shape[axis + 1 :]], INT64)


@rule_for("CumSum", (2, 2), "exclusive reverse")
def _summed(call: NodeCall) -> Value:
    call.expect(call.value(1).is_constant and call.value(1).count == 1)
    call.work += call.value(0).count
    return call.made(call.value(0).shape)
