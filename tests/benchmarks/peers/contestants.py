"""Who is compared, how each is run, and where its vectors are counted."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from environments import HERE, OUR_BIN, Unusable, bin_folder


@dataclass(frozen=True)
class Job:
    """One run: the pictures to embed, and an empty folder to work in."""

    cache: Path
    pictures: Path
    folder: Path


@dataclass(frozen=True)
class Run:
    """A command line, the variables it needs, and the folder it is given in."""

    command: list[str | os.PathLike[str]]
    variables: dict[str, str]
    folder: Path


@dataclass(frozen=True)
class Contestant:
    """One row of the table.

    `like` is our row with the same model and precision, `packages` what its own environment is
    made of (none: ours), `weights` what weights.py makes for it, and by which environment.
    """

    key: str
    name: str
    model: str
    precision: str
    run: Callable[[Job], Run]
    count: Callable[[Job], int]
    versions: tuple[str, ...]
    weights: dict[str, tuple[str, str]]
    packages: tuple[str, ...] = ()
    environment: str = ""
    like: str = ""
    by_default: bool = True

    @property
    def is_ours(self) -> bool:
        return self.key.startswith("ours")


def _count(file: Path, table: str, column: str) -> int:
    """Return the number of different vectors of 512 in a table of an SQLite database."""
    with sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True) as connection:
        sql = f"select count(distinct {column}) from {table} where length({column}) = 2048"
        return int(connection.execute(sql).fetchone()[0])


def _ours(model: str, precision: str, into_known: bool = False) -> Callable[[Job], Run]:
    def run(job: Job) -> Run:
        command = embed(job)
        if into_known:
            known = job.cache / f"{model}-{precision}.db"
            if not known.exists():
                subprocess.run(command.command, check=True, stdout=subprocess.DEVNULL)
                with sqlite3.connect(job.folder / "photos.db") as connection:
                    connection.execute("delete from images")
                (job.folder / "photos.db").rename(known)
                shutil.rmtree(job.folder)
                job.folder.mkdir()
            shutil.copy(known, job.folder / "photos.db")
        return command

    def embed(job: Job) -> Run:
        weights = job.cache / "weights" / f"{model}.safetensors"
        command = [
            OUR_BIN / "sqlite-utils", "embed-images", job.folder / "photos.db", job.pictures,
            "--model", model, "--pretrained", weights, "--precision", precision, "--silent",
            # What no peer makes.
            "--text-tower", "none",
        ]  # fmt: skip
        # What it may keep between runs must not make a later one warm.
        return Run(command, {"XDG_CACHE_HOME": str(job.folder / "cache")}, job.folder)

    return run


def _count_ours(job: Job) -> int:
    if not list(job.folder.glob("photos*.faiss")):
        raise Unusable("it wrote no index file")
    return _count(job.folder / "photos.db", "clip_embeddings", "embedding")


def _our_contestant(
    key: str, name: str, model: str, precision: str, into_known: bool = False, **more: bool
) -> Contestant:
    """Return a row of ours; `into_known` is of a database that knows the model, of no pictures."""
    size = "256" if model.endswith("-256") else "224"
    return Contestant(
        key=key,
        name=name,
        model=f"{model.removesuffix('-256')}, {size}",
        precision=precision,
        run=_ours(model, precision, into_known),
        count=_count_ours,
        versions=("datasette-clip-search", "torch", "onnxruntime"),
        weights={f"{model}.safetensors": (model, "")},
        **more,
    )


def _run_article(job: Job) -> Run:
    weights = job.cache / "weights" / "ViT-B-32.safetensors"
    index = job.folder / "photos.faiss"
    return Run([sys.executable, HERE / "article.py", weights, job.pictures, index], {}, job.folder)


def _count_article(job: Job) -> int:
    import faiss
    import numpy as np

    index = faiss.read_index(str(job.folder / "photos.faiss"))
    return len(np.unique(index.reconstruct_n(0, index.ntotal), axis=0))


def _run_rclip(job: Job) -> Run:
    """Index the current folder and ask for one result.

    rclip has no command that only indexes. The query is a small picture and not words, so that
    it need not load its text tower too.

    Its models are put where it keeps them once downloaded. Nothing of it is changed.
    """
    data = job.folder / "data"
    data.mkdir()
    for models in (job.cache / "weights" / "rclip").iterdir():
        (data / models.name).symlink_to(models)
    query = job.cache / "query.jpg"
    command = [bin_folder(job.cache, "rclip") / "rclip", "--top", "1", "--filepath-only", query]
    return Run(command, {"RCLIP_DATADIR": str(data)}, job.pictures)


def _count_rclip(job: Job) -> int:
    return _count(job.folder / "data" / "db.sqlite3", "images", "vector")


def _run_llm_clip(job: Job) -> Run:
    """Embed a folder as the documentation of llm-clip shows.

    It asks sentence-transformers for `clip-ViT-B-32`, which takes a folder of this name in the
    current folder before it looks on the hub. Nothing of it is changed.
    """
    (job.folder / "clip-ViT-B-32").symlink_to(job.cache / "weights" / "clip-ViT-B-32")
    command = [
        bin_folder(job.cache, "llm-clip") / "llm", "embed-multi", "photos", "--binary",
        "--files", job.pictures, "*.jpg", "--model", "clip", "--database", job.folder / "photos.db",
    ]  # fmt: skip
    return Run(command, {"LLM_USER_PATH": str(job.folder / "user")}, job.folder)


def _count_llm_clip(job: Job) -> int:
    return _count(job.folder / "photos.db", "embeddings", "embedding")


def _clip_retrieval(*options: str) -> Callable[[Job], Run]:
    def run(job: Job) -> Run:
        """Run its inference with its default model, of which OpenAI's package loads a file.

        Its default batch of 256 also sets its warm-up: 512 pictures and 512 texts before the
        first picture of ours. The second row of it spares it that.
        """
        command = [
            bin_folder(job.cache, "clip-retrieval") / "clip-retrieval", "inference",
            "--input_dataset", job.pictures, "--output_folder", job.folder / "embeddings",
            "--clip_model", job.cache / "weights" / "openai.pt", *options,
        ]  # fmt: skip
        return Run(command, {}, job.folder)

    return run


def _count_clip_retrieval(job: Job) -> int:
    import numpy as np

    parts = sorted((job.folder / "embeddings" / "img_emb").glob("*.npy"))
    if not parts:
        raise Unusable("it wrote no embeddings")
    return len(np.unique(np.concatenate([np.load(part) for part in parts]), axis=0))


def _clip_retrieval_contestant(key: str, name: str, *options: str) -> Contestant:
    return Contestant(
        key=key,
        name=name,
        model="ViT-B-32, 224",
        precision="fp32",
        run=_clip_retrieval(*options),
        count=_count_clip_retrieval,
        versions=("clip-retrieval", "torch"),
        weights={"openai.pt": ("openai", "")},
        # The CLIP package that it needs imports pkg_resources, which later setuptools lack.
        packages=("clip-retrieval==2.45.0", "setuptools<81"),
        environment="clip-retrieval",
        like="ours-fp32",
    )


CONTESTANTS = (
    _our_contestant("ours", "ours, default", "ViT-B-32", "auto"),
    _our_contestant("ours-int8", "ours, int8", "ViT-B-32", "int8"),
    _our_contestant(
        "ours-int8-known", "ours, int8, a later run", "ViT-B-32", "int8", into_known=True
    ),
    _our_contestant("ours-bf16", "ours, bf16", "ViT-B-32", "bf16", by_default=False),
    _our_contestant("ours-fp32", "ours, fp32", "ViT-B-32", "fp32"),
    _our_contestant("ours-256", "ours, rclip's model and precision", "ViT-B-32-256", "fp32"),
    Contestant(
        key="rclip",
        name="rclip",
        model="ViT-B-32, 256",
        precision="fp32",
        run=_run_rclip,
        count=_count_rclip,
        versions=("rclip", "onnxruntime"),
        weights={"rclip": ("rclip", "")},
        packages=("rclip==3.3.0",),
        environment="rclip",
        like="ours-256",
    ),
    Contestant(
        key="llm-clip",
        name="llm embed-multi with llm-clip",
        model="ViT-B-32, 224",
        precision="fp32",
        run=_run_llm_clip,
        count=_count_llm_clip,
        versions=("llm-clip", "llm", "sentence-transformers", "torch"),
        weights={
            "vocabulary": ("vocabulary", ""),
            "clip-ViT-B-32": ("sentence-transformer", "llm-clip"),
        },
        # Without this extra, which llm-clip does not ask for, there is no Pillow.
        packages=("llm==0.36", "llm-clip==0.1", "sentence-transformers[image]==6.2.0"),
        environment="llm-clip",
        like="ours-fp32",
    ),
    _clip_retrieval_contestant("clip-retrieval", "clip-retrieval inference"),
    _clip_retrieval_contestant(
        "clip-retrieval-16", "clip-retrieval inference, batches of 16", "--batch_size", "16"
    ),
    Contestant(
        key="article",
        name="one picture at a time (a tutorial's loop)",
        model="ViT-B-32, 224",
        precision="fp32",
        run=_run_article,
        count=_count_article,
        versions=("open_clip_torch", "torch"),
        weights={"ViT-B-32.safetensors": ("ViT-B-32", "")},
        like="ours-fp32",
    ),
)
