"""Export OpenCLIP's image towers to ONNX, in float32 and in the form that suits int8 best."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ....common.errors import EncoderUnavailable
from ...onnx_file.session import open_file

INPUT, OUTPUT = "pixels", "features"
# The least cosine between a vector of the exported graph and torch's.
SAME = 0.99999


def export_tower(model: Any, image_size: tuple[int, int], file: Path) -> None:
    """Write the image tower of an OpenCLIP model as an ONNX file, with its weights beside it.

    `model` is in eval mode, float32, on the CPU, and stays as it is; `image_size` is (height,
    width). The graph's input is "pixels" (n, 3, height, width), float32, preprocessed, and its
    output "features" (n, d), float32, not normalised, for any n. The weights go to `file` +
    ".data", because an ONNX file can't exceed 2 GB.

    Raises EncoderUnavailable when the exporter can't express the model.
    """
    import torch

    height, width = image_size
    pixels = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        exact = model.encode_image(pixels).numpy()
    reason: object = None
    for simplified in (True, False):
        try:
            to_onnx(_tower(shallow_copy(model), simplified), pixels, file, INPUT, OUTPUT)
            features = _run(file, pixels.numpy())
        except Exception as error:
            # torch.export, the ONNX exporter and ONNX Runtime have an exception each.
            reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
            continue
        norms = np.linalg.norm(features, axis=1) * np.linalg.norm(exact, axis=1)
        cosine = ((features * exact).sum(axis=1) / norms).min()
        if cosine >= SAME:
            return
        reason = f"its vectors are not torch's: cosine {cosine:.6f}, expected at least {SAME}"
    raise EncoderUnavailable(
        f"The model's image tower can't be turned into ONNX: {reason}. Use another --precision"
    )


def shallow_copy(model: Any) -> Any:
    """Return a copy of a model that shares its parameters: only the modules are new."""
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    return copy.deepcopy(model, shared)


def to_onnx(module: Any, example: Any, file: Path, input_name: str, output_name: str) -> None:
    """Export a module that takes one tensor (n, …), with its weights in a file beside it."""
    import torch

    with silence_exporter(), torch.no_grad():
        torch.onnx.export(
            module,
            (example,),
            file,
            dynamo=True,
            external_data=True,
            input_names=[input_name],
            output_names=[output_name],
            dynamic_shapes={input_name: {0: torch.export.Dim("n")}},
            verbose=False,
        )


def _run(file: Path, pixels: Any) -> Any:
    session = open_file(file, optimised=False)
    # One more than in the export, which may have made a constant of n.
    return session.run(None, {INPUT: np.concatenate([pixels, pixels[:1]])})[0][: len(pixels)]


def _tower(model: Any, simplified: bool) -> Any:
    import torch

    class PictureModule(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: Any) -> Any:
            return self.model.encode_image(pixels)

    if simplified:
        _simplify(model)
    return PictureModule().eval()


def _simplify(model: Any) -> None:
    """Replace modules by equivalent ones whose operators are fast in ONNX Runtime.

    Attention becomes one operator instead of about thirty, most of which only move data. A
    convolution whose windows do not overlap becomes a matrix product.
    """
    import torch

    class Attention(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, attention: Any) -> None:
            super().__init__()
            weights = attention.in_proj_weight.chunk(3)
            biases = attention.in_proj_bias.chunk(3)
            self.projections = torch.nn.ModuleList(
                _linear(weight, bias) for weight, bias in zip(weights, biases, strict=True)
            )
            self.heads = attention.num_heads
            self.out_proj = attention.out_proj

        def forward(self, x: Any, *_: Any, attn_mask: Any = None, **__: Any) -> Any:
            assert attn_mask is None
            projected = [projection(x) for projection in self.projections]
            attended = torch.onnx.ops.symbolic(
                "com.microsoft::MultiHeadAttention",
                projected,
                {"num_heads": self.heads},
                dtype=x.dtype,
                shape=x.shape,
                version=1,
            )
            return self.out_proj(attended), None

    class Patches(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, convolution: Any) -> None:
            super().__init__()
            self.window = convolution.kernel_size
            self.linear = _linear(convolution.weight.flatten(1), convolution.bias)

        def forward(self, x: Any) -> Any:
            height, width = self.window
            channels, rows, columns = x.shape[1], x.shape[2] // height, x.shape[3] // width
            x = x[:, :, : rows * height, : columns * width]
            x = x.reshape(-1, channels, rows, height, columns, width).permute(0, 2, 4, 1, 3, 5)
            x = self.linear(x.reshape(-1, rows * columns, self.linear.in_features))
            return x.transpose(1, 2).reshape(-1, x.shape[2], rows, columns)

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if _is_self_attention(child):
                setattr(parent, name, Attention(child))
            elif _takes_patches(child):
                setattr(parent, name, Patches(child))


def _linear(weight: Any, bias: Any) -> Any:
    import torch

    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    # The exporter only follows weights that are whole tensors of their own.
    linear.weight = torch.nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        linear.bias = torch.nn.Parameter(bias.detach().clone(), requires_grad=False)
    return linear


def _is_self_attention(module: Any) -> bool:
    import torch

    return (
        type(module) is torch.nn.MultiheadAttention
        and module.batch_first
        and module.in_proj_weight is not None
        and module.in_proj_bias is not None
        and module.bias_k is None
        and not module.add_zero_attn
    )


def _takes_patches(module: Any) -> bool:
    import torch

    return (
        type(module) is torch.nn.Conv2d
        and module.kernel_size == module.stride
        and module.kernel_size != (1, 1)
        and module.padding in ((0, 0), "valid")
        and module.dilation == (1, 1)
        and module.groups == 1
    )


@contextmanager
def silence_exporter() -> Iterator[None]:
    """Silence the exporter, which prints its progress, warns and logs."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
