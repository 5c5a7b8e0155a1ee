"""Makes random weights of every contestant's own architecture, in the form that it loads.

python weights.py KIND TARGET

Random weights cost as much to load and to run as trained ones, and need no network. What they
make means nothing, so this benchmark says nothing about the quality of the vectors.
"""

import gzip
import json
import shutil
import sys
from pathlib import Path
from typing import Any

SEED = 0
IMAGE_SIZE_OF_RCLIP = 256


def _model(name: str) -> Any:
    import open_clip
    import torch

    torch.manual_seed(SEED)
    return open_clip.create_model(name).eval()


def open_clip_file(name: str, target: Path) -> None:
    """Write a weights file for OpenCLIP."""
    from safetensors.torch import save_file

    weights = _model(name).state_dict()
    save_file({key: value.contiguous() for key, value in weights.items()}, target)


def openai_file(target: Path) -> None:
    """Write weights as OpenAI's own package loads them: half precision, quick GELU.

    OpenCLIP kept the names of OpenAI's layers.
    """
    import torch

    weights = _model("ViT-B-32-quickgelu").state_dict()
    torch.save({key: value.half() for key, value in weights.items()}, target)


def rclip_folder(target: Path) -> None:
    """Write rclip's model folder, exported as the script of its repository exports it.

    That is scripts/convert_model.py, with the same exporter, opset, names and dynamic axis.
    """
    import open_clip
    import torch

    model = _model("ViT-B-32-256")
    folder = target / "ViT-B-32-256-datacomp_s34b_b86k"
    folder.mkdir(parents=True)
    # Not under no_grad(): PyTorch would trace its fused attention, which ONNX does not have.
    torch.onnx.export(
        model.visual,
        (torch.randn(1, 3, IMAGE_SIZE_OF_RCLIP, IMAGE_SIZE_OF_RCLIP),),
        str(folder / "visual.onnx"),
        input_names=["input"],
        output_names=["output"],
        dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
        opset_version=18,
        dynamo=False,
    )
    # It must be there, or rclip asks the network for it. It is read for queries in words only.
    (folder / "textual.onnx").touch()
    vocabulary = target / "tokenizer" / "bpe_simple_vocab_16e6.txt.gz"
    vocabulary.parent.mkdir()
    shutil.copy(Path(open_clip.__file__).parent / vocabulary.name, vocabulary)


def vocabulary(target: Path) -> None:
    """Write CLIP's vocabulary in the two files that transformers reads."""
    import open_clip
    from open_clip.tokenizer import bytes_to_unicode

    source = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(source.read_bytes()).decode().split("\n")
    merges = lines[1 : 49152 - 256 - 2 + 1]
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += ["".join(merge.split()) for merge in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    target.mkdir(parents=True)
    ids = {word: number for number, word in enumerate(words)}
    (target / "vocab.json").write_text(json.dumps(ids), "utf-8")
    (target / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]), "utf-8")


def sentence_transformer(target: Path) -> None:
    """Write a folder laid out as sentence-transformers/clip-ViT-B-32 is on the hub.

    The vocabulary must be in the folder `vocabulary` beside the target.
    """
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    torch.manual_seed(SEED)
    folder = target / "0_CLIPModel"
    folder.mkdir(parents=True)
    # The defaults of the configuration are those of ViT-B/32.
    CLIPModel(CLIPConfig()).save_pretrained(folder)
    words = target.parent / "vocabulary"
    shutil.copy(words / "vocab.json", folder)
    shutil.copy(words / "merges.txt", folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=77)
    CLIPProcessor(CLIPImageProcessor(), tokenizer).save_pretrained(folder)
    module = {"idx": 0, "name": "0", "path": folder.name}
    module["type"] = "sentence_transformers.models.CLIPModel"
    (target / "modules.json").write_text(json.dumps([module]), "utf-8")


def main(kind: str, target: Path) -> None:
    makers = {
        "openai": openai_file,
        "rclip": rclip_folder,
        "vocabulary": vocabulary,
        "sentence-transformer": sentence_transformer,
    }
    if kind in makers:
        makers[kind](target)
    else:
        open_clip_file(kind, target)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
