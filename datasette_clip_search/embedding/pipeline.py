"""Encode pictures: one process per core decodes, and one thread per core runs the model."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np

from ..common.arrays import Pixels, Vectors
from ..common.config import CONFIG
from ..common.cores import cores
from ..common.errors import CommandError
from ..models.device import torch_settings
from ..models.encoding import PictureEncoder
from ..pictures.processes.pool import Decoded, DecodeFailure, Outcome, Unneeded
from ..pictures.sources import Source
from .decode_ahead import Ahead, PendingPicture
from .outcomes import Embedded, Failed, Moved, Result, Same
from .plan import Contents

# How often to check for an interrupt, and how long to wait then for a picture in progress.
_LOOK_SECONDS, _PATIENCE_SECONDS = 0.5, 5


class _Patience:
    """The time that a picture in progress still gets after a request to stop."""

    def __init__(self, is_stopped: Callable[[], bool]):
        self._is_stopped = is_stopped
        self._until: float | None = None

    def is_over(self) -> bool:
        """Tell whether a stop was requested and that time has passed."""
        if not self._is_stopped():
            return False
        self._until = self._until or time.monotonic() + _PATIENCE_SECONDS
        return time.monotonic() > self._until


@dataclass
class _Batch:
    """Results in the order of the work; the Decoded ones still lack their vectors."""

    results: list[Result | tuple[Source, Decoded]] = field(default_factory=list)
    pixels: list[Pixels] = field(default_factory=list)


class Pipeline:
    """Embeds a bounded number of pictures at a time, in the order of the work.

    - Memory does not grow with the work.
    - A picture's vector does not depend on its batch: a batch that isn't full is padded, so that
      the model always sums in the same order.
    """

    def __init__(
        self,
        ahead: Ahead,
        contents: Contents,
        load_encoder: Callable[[], PictureEncoder],
        batch_size: int | None,
    ):
        """Take a loader of the encoder, called by load() or for the first picture without a vector.

        When `ahead` stops, the batches in progress are finished.
        """
        self._ahead = ahead
        self._contents = contents
        self._load_encoder = load_encoder
        self._batch_size = batch_size
        self._encoder: PictureEncoder | None = None
        self._torch_settings = ExitStack()
        # Threads that launch work on a GPU mostly wait for Python's lock.
        self._turns = threading.Semaphore(cores())
        # Hashes of contents in progress, which are not in the database yet.
        self._begun: set[str] = set()
        self._ahead.least = self._size * (cores() + 1)

    def load(self) -> None:
        """Load the encoder while the first pictures are being decoded."""
        self._ahead.fill()
        self._encoder = self._load_encoder()
        self._ahead.use(self._encoder.preprocess)
        self._ahead.least = self._size * (cores() + 1)
        if self._encoder.device != "cpu":
            self._turns = threading.Semaphore(CONFIG.gpu_batches_at_once)
        self._torch_settings.enter_context(torch_settings(self._encoder.matmul))

    def run(self) -> Generator[list[Result], None, None]:
        """Yield the results of one batch after another."""
        threads = ThreadPoolExecutor(cores(), thread_name_prefix="encoding")
        with self._torch_settings, threads as pool:
            under_way: deque[Future[list[Result]]] = deque()
            batch = _Batch()
            for picture in self._ahead:
                patience = _Patience(self._ahead.is_stopped)
                while not wait([picture.future], _LOOK_SECONDS).done and not patience.is_over():
                    # A slow disk can take minutes to deliver a file: finished batches do not wait.
                    while under_way and under_way[0].done():
                        yield under_way.popleft().result()
                if not picture.future.done():
                    break
                outcome = picture.future.result()
                if result := self._settled(picture, outcome):
                    batch.results.append(result)
                elif self._encoder is None:
                    # It is decoded again if the model turns out to need other preprocessing.
                    self._ahead.put_back(picture)
                    self.load()
                    continue
                else:
                    assert isinstance(outcome, Decoded)
                    assert outcome.pixels is not None
                    self._begun.add(outcome.content_hash)
                    batch.results.append((picture.source, outcome))
                    batch.pixels.append(outcome.pixels)
                # Results that need no vector are written in portions, too.
                if len(batch.pixels) < self._size and len(batch.results) < 8 * self._size:
                    continue
                under_way.append(pool.submit(self._encode, batch))
                batch = _Batch()
                while len(under_way) > cores() + 1 or (under_way and under_way[0].done()):
                    yield under_way.popleft().result()
            under_way.append(pool.submit(self._encode, batch))
            for future in under_way:
                yield future.result()

    @property
    def _size(self) -> int:
        if self._batch_size:
            return self._batch_size
        on_gpu = self._encoder is not None and self._encoder.device != "cpu"
        return CONFIG.gpu_batch_size if on_gpu else CONFIG.cpu_batch_size

    def _settled(self, picture: PendingPicture, outcome: Outcome) -> Result | None:
        """Return the result of a picture that needs no new vector, or None."""
        source, row = picture.source, picture.row
        if isinstance(outcome, DecodeFailure):
            return Failed(source, outcome.advice, outcome.again, outcome.unread)
        content_hash = outcome.content_hash
        if row and row.embedded and row.content_hash == content_hash:
            return Same(source, content_hash, row.image_id, is_itself=True)
        if row is None:
            moved = self._contents.take_moved(content_hash, source.stored)
            if moved is not None:
                return Moved(source, content_hash, moved)
        if isinstance(outcome, Unneeded) or content_hash in self._begun:
            return Same(source, content_hash, self._contents.find(content_hash))
        return None

    def _encode(self, batch: _Batch) -> list[Result]:
        vectors = iter(self._vectors(batch.pixels))
        results: list[Result] = []
        for result in batch.results:
            if not isinstance(result, tuple):
                results.append(result)
                continue
            source, decoded = result
            vector = next(vectors)
            assert self._encoder is not None
            precision = self._encoder.precision
            if np.isfinite(vector).all():
                results.append(Embedded(source, decoded, vector, precision))
            else:
                reason = f"The model makes numbers of it that are not finite, in {precision}"
                results.append(Failed(source, reason, again=True))
        return results

    def _vectors(self, pixels: Sequence[Pixels]) -> Vectors:
        if not pixels:
            return np.empty((0, 0), np.float32)
        assert self._encoder is not None
        # With fewer rows, processors sum in another order.
        filled = np.zeros((max(self._size, len(pixels)), *pixels[0].shape), np.uint8)
        np.stack(pixels, out=filled[: len(pixels)])
        with _explained(self._encoder), self._turns:
            return self._encoder.encode_pixels(filled)[: len(pixels)]


@contextmanager
def _explained(encoder: PictureEncoder) -> Iterator[None]:
    """Turn torch's errors about a model that can't run into one that says what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # The rest, about the GPU's memory, is advice for authors of PyTorch programs.
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        reason = first_line.partition(". GPU ")[0]
        raise CommandError(
            f"{encoder.label} can't run on {encoder.device}: {reason}. What was "
            "embedded before is kept. Try a smaller --batch-size, or --device cpu"
        ) from error
