"""The decoding process: `python -m datasette_clip_search.pictures.processes.worker`.

Broken and hostile files reach the decoders first. Here they can crash, hang or print, and only
this process is lost. It exchanges pickles over its standard streams:

1. It receives a list of jobs.
2. It reads the files. If they arrive slowly, it sends ARRIVING now and then.
3. It sends the list of their hashes, with a failure for each file that can't be read.
4. It receives which of them to decode.
5. It sends the outcome of each of these, one by one.
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

# Holds the whole answer for a picture, so that it is sent in one piece.
_ANSWER_BYTES = 1 << 18
# An amount that even a slow disk delivers in seconds, and how often to report progress.
_CHUNK_BYTES = 1 << 20
_REPORT_SECONDS = 0.25


def main() -> None:
    """Answer jobs until standard input ends."""
    _die_with_parent()
    _lower_priority()
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb", _ANSWER_BYTES)
    # Nothing that a library prints may end up among the replies.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    warnings.simplefilter("ignore")
    requests = sys.stdin.buffer
    _send(replies, "ready")
    with without_pillow_limit():
        while True:
            _answer(pickle.load(requests), requests, replies)


def _die_with_parent() -> None:
    """End with the parent even while a decoder hangs; otherwise, the end of input is enough."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _lower_priority() -> None:
    """Lower the priority: the model loses more of its CPU caches when it is interrupted."""
    if sys.platform != "win32":
        os.nice(5)


def _answer(jobs: Sequence[Job], requests: BinaryIO, replies: BinaryIO) -> None:
    arrival = _Arrival(replies)
    contents = [_result_or_failure(_read, job, arrival) for job in jobs]
    hashes = [
        content if isinstance(content, DecodeFailure) else hashlib.sha256(content).hexdigest()
        for content in contents
    ]
    _send(replies, hashes)
    needed = pickle.load(requests)
    for each in compress(zip(jobs, contents, hashes, strict=True), needed):
        _send(replies, _result_or_failure(_decode, *each))


def _result_or_failure(work: Callable[..., T], *arguments: Any) -> T | DecodeFailure:
    """Return the result of `work`, or why it failed."""
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
    """Reports to the parent that bytes keep arriving, if they arrive slowly."""

    def __init__(self, replies: BinaryIO):
        self._replies = replies
        self._reported = time.monotonic()

    def note(self) -> None:
        """Note that some bytes have been read."""
        now = time.monotonic()
        if now - self._reported > _REPORT_SECONDS:
            self._reported = now
            _send(self._replies, ARRIVING)


def _read(job: Job, arrival: _Arrival) -> bytes:
    if job.data is not None:
        return job.data
    assert job.path is not None
    try:
        # A pipe may never end.
        if not stat.S_ISREG(os.stat(job.path).st_mode):
            raise PictureUnreadable("It is not a regular file")
        with open(job.path, "rb") as file:
            # One call reads most files.
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
        # The parent has ended.
        sys.exit()
