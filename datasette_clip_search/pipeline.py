"""Files in, vectors out: every core decodes and encodes small batches of its own."""

import hashlib
import os
import stat
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from .config import CONFIG
from .encoder import Encoder
from .errors import PictureError, PictureTooLarge, PictureUnreadable
from .images import Picture, decode, make_thumbnail, without_pillow_limit
from .store import Embedded, Failed, File, Known, Result, Same

Work = tuple[File, Known | None]
"""A file, and what the database knows of it."""


def embed_files(
    work: Sequence[Work],
    hashes: Mapping[str, int],
    encoder: Encoder,
    batch_size: int | None,
    max_megapixels: float,
) -> Iterator[list[Result]]:
    """Yields the results of one batch after another, in the order of `work`.

    `hashes` gives the pictures whose content need not be embedded again; it may grow meanwhile.
    Only a few batches are under way at a time, so memory does not grow with the work.
    """
    on_cpu = encoder.device == "cpu"
    size = batch_size or (CONFIG.cpu_batch_size if on_cpu else CONFIG.gpu_batch_size)
    workers = _cores()
    embed = partial(_embed_batch, hashes, encoder, max_megapixels)
    under_way: deque[Future[list[Result]]] = deque()
    with _one_thread_each(on_cpu), without_pillow_limit(), ThreadPoolExecutor(workers) as pool:
        try:
            for start in range(0, len(work), size):
                under_way.append(pool.submit(embed, work[start : start + size]))
                if len(under_way) > workers + 1:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        except BaseException:
            for future in under_way:
                future.cancel()
            raise


def _embed_batch(
    hashes: Mapping[str, int], encoder: Encoder, max_megapixels: float, batch: Sequence[Work]
) -> list[Result]:
    results: list[Result] = []
    decoded: list[tuple[File, str, Picture]] = []
    smallest_side = max(encoder.image_size, CONFIG.thumbnail_size)
    for file, row in batch:
        try:
            data = _read(file)
            content_hash = hashlib.sha256(data).hexdigest()
            if row and row.embedded and row.content_hash == content_hash:
                results.append(Same(file, content_hash, row.image_id))
            elif content_hash in hashes:
                results.append(Same(file, content_hash, hashes[content_hash]))
            else:
                decoded.append((file, content_hash, decode(data, smallest_side, max_megapixels)))
        except PictureError as error:
            # What another limit or permission would mend is tried again the next time.
            again = isinstance(error, (PictureTooLarge, PictureUnreadable))
            results.append(Failed(file, str(error), again))
    if decoded:
        vectors = encoder.encode_images([picture.image for _, _, picture in decoded])
        for (file, content_hash, picture), vector in zip(decoded, vectors, strict=True):
            thumbnail = make_thumbnail(picture.image)
            results.append(Embedded(file, content_hash, picture, thumbnail, vector))
    return results


def without_pictures(work: Sequence[Work], max_megapixels: float) -> list[Failed]:
    """Returns why each of a few files is no picture, or nothing as soon as one is."""
    failures: list[Failed] = []
    for file, _ in work[: CONFIG.files_looked_at_first]:
        try:
            decode(_read(file), max_megapixels=max_megapixels)
            return []
        except PictureError as error:
            failures.append(Failed(file, str(error)))
    return failures if len(failures) == len(work) else []


def _read(file: File) -> bytes:
    if os.fsencode(file.path).decode("utf-8", "replace") != str(file.path):
        raise PictureError("Its name is not valid UTF-8. Rename the file")
    try:
        # A pipe would never end.
        if not stat.S_ISREG(file.path.stat().st_mode):
            raise PictureUnreadable("It is not a regular file")
        return file.path.read_bytes()
    except OSError as error:
        raise PictureUnreadable(f"It can't be read: {error.strerror}") from error


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _one_thread_each(on_cpu: bool) -> Iterator[None]:
    """Lets every worker have one core to itself, instead of each wanting all."""
    import torch

    before = torch.get_num_threads()
    if on_cpu:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
