"""OpenCLIP's own text transformer as an ONNX graph, for texts of any length."""

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from .graph_builder import MICROSOFT, Array, GraphBuilder

INPUT, OUTPUT = "tokens", "features"

# With these kinds of pooling, tokens after the end of a text can't change its vector.
_AT_THE_END = ("argmax", "eos", "first")


def build_text_graph(model: Any, bits: int) -> tuple[bytes, bool] | None:
    """Return the text tower of an OpenCLIP model as an ONNX file, None if it is of another kind.

    `model` is float32, on the CPU. The graph's input is "tokens" (n, length), int64, and its output
    "features" (n, d), float32, not normalised. Also return whether tokens after the end of a text
    may be left out: they may where each token sees only those before it, and the end is read.
    """
    tower = _tower(model)
    if tower is None:
        return None
    is_causal, pooling = tower.attn_mask is not None, _pooling(model, tower)
    graph = GraphBuilder(bits)
    x = graph.rows(_array(tower.token_embedding.weight), INPUT)
    one, two, zero = (graph.constant(np.array([number])) for number in (1, 2, 0))
    length = graph.add("Slice", graph.add("Shape", INPUT), one, two)
    positions = graph.constant(_array(tower.positional_embedding))
    x = graph.add("Add", x, graph.add("Slice", positions, zero, length, zero))
    for block in tower.transformer.resblocks:
        attended = _attention(graph, block.attn, _normalised(graph, block.ln_1, x), is_causal)
        x = graph.add("Add", x, _scaled(graph, block.ls_1, attended))
        x = graph.add(
            "Add", x, _scaled(graph, block.ls_2, _mlp(graph, block.mlp, _normalised(
                graph, block.ln_2, x
            )))
        )  # fmt: skip
    # Each token is normalised by itself, so it is enough to normalise the one that is read.
    x = _normalised(graph, tower.ln_final, _pooled(graph, x, *pooling))
    projection = tower.text_projection
    if hasattr(projection, "weight"):
        x = _linear(graph, projection, x)
    elif projection is not None:
        x = graph.product(x, _array(projection))
    graph.nodes[-1].output[0] = OUTPUT
    file = graph.model(
        helper.make_tensor_value_info(INPUT, TensorProto.INT64, ["n", "length"]),
        helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", "d"]),
    )
    return file.SerializeToString(), is_causal and pooling[0] in _AT_THE_END


def _tower(model: Any) -> Any:
    """Return the module that holds the text tower, None for one of another kind."""
    import torch
    from open_clip import transformer
    from open_clip.model import CLIP, CustomTextCLIP

    tower = model.text if type(model) is CustomTextCLIP else model
    if type(tower) not in (CLIP, transformer.TextTransformer):
        return None
    if getattr(tower, "cls_emb", None) is not None or getattr(tower, "use_pad_mask", False):
        return None
    mask = tower.attn_mask
    if mask is not None and not torch.equal(mask, torch.full_like(mask, -torch.inf).triu_(1)):
        return None
    blocks = list(tower.transformer.resblocks)
    norms = [tower.ln_final, *(norm for block in blocks for norm in (block.ln_1, block.ln_2))]
    plain = (transformer.LayerNorm, transformer.LayerNormFp32)
    is_known = (
        all(type(block) is transformer.ResidualAttentionBlock for block in blocks)
        and all(type(norm) in plain and norm.bias is not None for norm in norms)
        and all(_gelu(block.mlp.gelu) for block in blocks)
        and _pooling(model, tower)[0] != "none"
    )
    return tower if is_known else None


def _pooling(model: Any, tower: Any) -> tuple[str, int]:
    """Return the kind of pooling, and the token that ends a text."""
    if tower is model:
        return model.text_pool_type, model.text_eos_id
    return tower.pool_type, tower.eos_id


def _gelu(module: Any) -> tuple[str, dict[str, float]] | None:
    import torch
    from open_clip.transformer import QuickGELU

    if type(module) is QuickGELU:
        return "QuickGelu", {"alpha": 1.702}
    if type(module) is torch.nn.GELU:
        return ("FastGelu" if module.approximate == "tanh" else "Gelu"), {}
    return None


def _normalised(graph: GraphBuilder, norm: Any, x: str) -> str:
    parts = (graph.constant(_array(part)) for part in (norm.weight, norm.bias))
    return graph.add("LayerNormalization", x, *parts, epsilon=norm.eps)


def _attention(graph: GraphBuilder, attention: Any, x: str, is_causal: bool) -> str:
    weights = np.split(_array(attention.in_proj_weight), 3)
    biases = np.split(_array(attention.in_proj_bias), 3)
    projected = [graph.product(x, w.T, b) for w, b in zip(weights, biases, strict=True)]
    attended = graph.add(
        "MultiHeadAttention", *projected, domain=MICROSOFT,
        num_heads=attention.num_heads, unidirectional=int(is_causal),
    )  # fmt: skip
    return _linear(graph, attention.out_proj, attended)


def _mlp(graph: GraphBuilder, mlp: Any, x: str) -> str:
    operator, settings = _gelu(mlp.gelu) or ("", {})
    x = graph.add(operator, _linear(graph, mlp.c_fc, x), domain=MICROSOFT, **settings)
    return _linear(graph, mlp.c_proj, x)


def _scaled(graph: GraphBuilder, scale: Any, x: str) -> str:
    gamma = getattr(scale, "gamma", None)
    return x if gamma is None else graph.add("Mul", x, graph.constant(_array(gamma)))


def _pooled(graph: GraphBuilder, x: str, pooling: str, end: int) -> str:
    if pooling == "first":
        return graph.add("Gather", x, graph.constant(np.array(0)), axis=1)
    if pooling == "last":
        return graph.add("Gather", x, graph.constant(np.array(-1)), axis=1)
    tokens = INPUT
    if pooling == "eos":
        is_end = graph.add("Equal", INPUT, graph.constant(np.array(end)))
        tokens = graph.add("Cast", is_end, to=TensorProto.INT64)
    return graph.add("GatherND", x, graph.add("ArgMax", tokens, axis=1, keepdims=1), batch_dims=1)


def _linear(graph: GraphBuilder, linear: Any, x: str) -> str:
    bias = None if linear.bias is None else _array(linear.bias)
    return graph.product(x, _array(linear.weight).T, bias)


def _array(parameter: Any) -> Array:
    array: Array = parameter.detach().numpy()
    return array
