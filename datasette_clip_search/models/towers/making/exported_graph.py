"""A text tower of any kind that torch can export to ONNX, for texts of one length."""

import importlib
import tempfile
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

from ....common.errors import EncoderUnavailable
from .graph_builder import GraphBuilder
from .int8_graph import is_convolution, is_product, matrix_of
from .onnx_export import shallow_copy, to_onnx
from .open_clip_graph import INPUT, OUTPUT


def export_text_graph(model: Any, tokens: Any, bits: int) -> bytes:
    """Return the text tower of an OpenCLIP model of any architecture as an ONNX file.

    `model` is float32, on the CPU; `tokens` (2, length) are its tokenizer's, of two texts. Matrices
    and embeddings take `bits`; the rest stays as it is.

    Raises EncoderUnavailable where torch can't export it.
    """
    try:
        importlib.import_module("onnxscript")
    except ImportError as error:
        raise EncoderUnavailable(
            "Its text tower is not OpenCLIP's own, and exporting it needs onnxscript. "
            "Run: pip install onnxscript"
        ) from error
    with tempfile.TemporaryDirectory(prefix="clip-search-") as folder:
        file = Path(folder, "text.onnx")
        try:
            _export(model, tokens, file)
        except Exception as error:
            # torch.export and the ONNX exporter have an exception each.
            reason = (str(error).strip().splitlines() or [""])[0]
            raise EncoderUnavailable(
                f"Its text tower can't be exported: {type(error).__name__}: {reason}"
            ) from error
        exported = onnx.load(file)
    length = tokens.shape[1]
    graph = GraphBuilder(bits)
    copy_graph(graph, exported.graph)
    inputs = helper.make_tensor_value_info(INPUT, TensorProto.INT64, ["n", length])
    outputs = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", "d"])
    model_proto = graph.model(inputs, outputs, exported.opset_import)
    try:
        file_bytes: bytes = model_proto.SerializeToString()
    except ValueError as error:
        raise EncoderUnavailable(f"Its text tower is too large for ONNX in {bits} bits") from error
    return file_bytes


def _export(model: Any, tokens: Any, file: Path) -> None:
    import torch

    class TextModule(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = shallow_copy(model)

        def forward(self, tokens: Any) -> Any:
            return self.model.encode_text(tokens)

    to_onnx(TextModule().eval(), tokens, file, INPUT, OUTPUT)


def copy_graph(graph: GraphBuilder, exported: Any) -> None:
    """Copy a graph's nodes, and rebuild its products, convolutions and embeddings by constants."""
    constants = {constant.name: constant for constant in exported.initializer}
    for node in exported.node:
        name = None
        if is_product(node, constants):
            bias = None
            if len(node.input) > 2 and node.input[2] in constants:
                bias = numpy_helper.to_array(constants[node.input[2]])
            if len(node.input) < 3 or bias is not None:
                name = graph.product(node.input[0], matrix_of(node, constants), bias)
        elif _is_embedding(node, constants):
            name = graph.rows(numpy_helper.to_array(constants[node.input[0]]), node.input[1])
        elif is_convolution(node, constants):
            node.input[1] = graph.kernel(numpy_helper.to_array(constants[node.input[1]]))
        if name is None:
            graph.nodes.append(node)
        else:
            graph.nodes[-1].output[0] = node.output[0]
    used = {name for node in graph.nodes for name in node.input}
    graph.constants += [constants[name] for name in constants if name in used]
    for part in [*graph.nodes, *graph.constants]:
        # The exporter notes the lines of Python that each came from.
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _is_embedding(node: Any, constants: dict[str, Any]) -> bool:
    if node.op_type != "Gather" or node.input[0] not in constants:
        return False
    table = constants[node.input[0]]
    axes = [attribute.i for attribute in node.attribute if attribute.name == "axis"]
    is_matrix = len(table.dims) == 2 and table.data_type == TensorProto.FLOAT
    return is_matrix and axes in ([], [0]) and table.dims[0] > 1
