"""The process that decodes: `python -m datasette_clip_search.pictures.processes.worker`.

Decoders are the part of the work that meets broken and hostile files. Here they can crash, hang,
or write to the terminal, and only this process is lost. It talks pickle over its standard streams:
for a list of jobs it answers with the list of the contents' hashes and then, one by one, with each
picture that turns out to be needed. While files are slow to arrive, it says so before the list.
"""

import hashlib
import os
import pickle
import signal
import stat
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any, BinaryIO, TypeVar

from ...common.config import CONFIG
from ...common.errors import PictureError, PictureUnreadable
from ..decode import decode_picture, make_thumbnail, without_pillow_limit
from .messages import ARRIVING, Decoded, DecodeFailure, Job

T = TypeVar("T")

# Holds an answer with its picture, so that it is sent, and waited for, at once.
_ANSWER_BYTES = 1 << 18
# What even a slow disk delivers in seconds, and how often a run hears of it.
_CHUNK_BYTES = 1 << 20
_TELL_SECONDS = 0.25


def main() -> None:
    """Answers jobs until standard input ends."""
    _end_with_the_run()
    _give_way()
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb", _ANSWER_BYTES)
    # What a library prints must not come between the replies.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    warnings.simplefilter("ignore")
    requests = sys.stdin.buffer
    _send(replies, "ready")
    with without_pillow_limit():
        while True:
            _answer(pickle.load(requests), requests, replies)


def _end_with_the_run() -> None:
    """Has a decoder that hangs ended too when its run is killed; at other times, input ends."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _give_way() -> None:
    """Lets the model go first, which has more to lose from the caches when it is interrupted."""
    if sys.platform != "win32":
        os.nice(5)


def _answer(jobs: Sequence[Job], requests: BinaryIO, replies: BinaryIO) -> None:
    arrival = _Arrival(replies)
    contents = [_unless_refused(_read, job, arrival) for job in jobs]
    hashes = [
        content if isinstance(content, DecodeFailure) else hashlib.sha256(content).hexdigest()
        for content in contents
    ]
    _send(replies, hashes)
    needed = pickle.load(requests)
    for each in compress(zip(jobs, contents, hashes, strict=True), needed):
        _send(replies, _unless_refused(_decode, *each))


def _unless_refused(work: Callable[..., T], *arguments: Any) -> T | DecodeFailure:
    """Returns what `work` does of its arguments, or why it can't."""
    try:
        return work(*arguments)
    except PictureError as error:
        return DecodeFailure.of(error)
    except MemoryError:
        return DecodeFailure("There is not enough memory to decode it", again=True)


def _decode(job: Job, data: bytes, content_hash: str) -> Decoded:
    settings, preprocess = job.settings, job.settings.preprocess
    picture = decode_picture(
        data,
        smallest_side=preprocess.smallest_side if preprocess else None,
        max_megapixels=settings.max_megapixels,
        max_decoded_megapixels=settings.max_decoded_megapixels,
        formats=settings.formats,
        longest_side=CONFIG.thumbnail_size if settings.thumbnails else 0,
        name=job.name,
    )
    size = picture.width, picture.height
    return Decoded(
        content_hash,
        *size,
        picture.format,
        picture.facts,
        make_thumbnail(picture.image) if settings.thumbnails else b"",
        preprocess.model_input(picture.image, size) if preprocess else None,
    )


class _Arrival:
    """Tells the run that bytes arrive, where they are slow to."""

    def __init__(self, replies: BinaryIO):
        self._replies = replies
        self._told = time.monotonic()

    def note(self) -> None:
        """Is called whenever some bytes have been read."""
        now = time.monotonic()
        if now - self._told > _TELL_SECONDS:
            self._told = now
            _send(self._replies, ARRIVING)


def _read(job: Job, arrival: _Arrival) -> bytes:
    if job.data is not None:
        return job.data
    assert job.path is not None
    try:
        # A pipe would never end.
        if not stat.S_ISREG(os.stat(job.path).st_mode):
            raise PictureUnreadable("It is not a regular file")
        with open(job.path, "rb") as file:
            # Most files take one call.
            chunks = []
            while chunk := file.read(_CHUNK_BYTES):
                arrival.note()
                chunks.append(chunk)
            return b"".join(chunks)
    except OSError as error:
        raise PictureUnreadable(f"It can't be read: {error.strerror}") from error


def _send(replies: BinaryIO, value: object) -> None:
    pickle.dump(value, replies, protocol=pickle.HIGHEST_PROTOCOL)
    replies.flush()


if __name__ == "__main__":
    try:
        main()
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        # The run has ended, one way or another.
        sys.exit()
