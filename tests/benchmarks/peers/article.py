"""The loop that tutorials show: one picture at a time through OpenCLIP, then a FAISS index.

python article.py WEIGHTS FOLDER INDEX

Nothing of this project is used. It is the measure of what a short script gets without effort.
"""

import sys
from pathlib import Path

import faiss
import numpy as np
import open_clip
import torch
from PIL import Image


def main(weights: str, folder: str, index_file: str) -> None:
    model, _, preprocess = open_clip.create_model_and_transforms("ViT-B-32", pretrained=weights)
    model.eval()
    vectors = []
    for path in sorted(Path(folder).glob("*.jpg")):
        pixels = preprocess(Image.open(path)).unsqueeze(0)
        with torch.no_grad():
            features = model.encode_image(pixels)
        features /= features.norm(dim=-1, keepdim=True)
        vectors.append(features.numpy()[0])
    matrix = np.stack(vectors)
    index = faiss.IndexFlatIP(matrix.shape[1])
    index.add(matrix)
    faiss.write_index(index, index_file)


if __name__ == "__main__":
    main(*sys.argv[1:])
