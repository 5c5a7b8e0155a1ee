"""Pictures in, vectors out: processes decode, threads run the model, both one for each core."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np

from ..config import CONFIG
from ..decoding import Decoded, Decoders, Outcome, Refused, Settings, Unneeded
from ..encoder import PictureEncoder, Vectors
from ..errors import CommandError, PictureError
from ..pictures.preprocess import Pixels
from ..precision import torch_settings
from ..processors import cores
from ..sources import Source
from .plan import Contents, Work
from .results import Embedded, Failed, Known, Moved, Result, Same


@dataclass
class _Batch:
    """Results in the order of the work; those that are Decoded still lack their vectors."""

    results: list[Result | tuple[Source, Decoded]] = field(default_factory=list)
    pixels: list[Pixels] = field(default_factory=list)


class Pipeline:
    """Embeds pictures, a bounded number of them at a time, in the order of the work.

    Memory does not grow with the work. A picture's vector does not depend on its batch: a batch
    that isn't full is filled up, so that the model always does the same sums.
    """

    def __init__(
        self,
        decoders: Decoders,
        settings: Settings,
        contents: Contents,
        load_encoder: Callable[[], PictureEncoder],
        batch_size: int | None,
        is_stopped: Callable[[], bool],
    ):
        """`load_encoder` is called when the first picture is to be encoded.

        When `is_stopped` says so, what has begun is finished and no more begun.
        """
        self._decoders = decoders
        self._settings = settings
        self._contents = contents
        self._load_encoder = load_encoder
        self._batch_size = batch_size
        self._is_stopped = is_stopped
        self._encoder: PictureEncoder | None = None
        self._torch_settings = ExitStack()
        # Contents under way, which are not in the database yet.
        self._begun: set[str] = set()

    def run(self, work: Sequence[Work]) -> Iterator[list[Result]]:
        """Yields the results of one batch after another."""
        threads = ThreadPoolExecutor(cores(), thread_name_prefix="encoding")
        with self._torch_settings, threads as pool:
            under_way: deque[Future[list[Result]]] = deque()
            batch = _Batch()
            for source, row, outcome in self._decoded(work):
                self._settle(source, row, outcome, batch)
                # Without a model there is no batch size; what needs none is written in portions.
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

    def _decoded(self, work: Sequence[Work]) -> Iterator[tuple[Source, Known | None, Outcome]]:
        """Decodes ahead, far enough to keep every core busy."""
        ahead: deque[tuple[Source, Known | None, Future[Outcome]]] = deque()
        for source, row in work:
            if self._is_stopped():
                break
            ahead.append((source, row, self._submit(source, row)))
            if len(ahead) > self._size * (cores() + 1):
                source, row, future = ahead.popleft()
                yield source, row, future.result()
        for source, row, future in ahead:
            if self._is_stopped() and future.cancel():
                continue
            yield source, row, future.result()

    def _submit(self, source: Source, row: Known | None) -> Future[Outcome]:
        def is_wanted(content_hash: str) -> bool:
            if row and row.embedded and row.content_hash == content_hash:
                return False
            return self._contents.find(content_hash) is None

        try:
            data = source.read() if source.in_order else None
        except PictureError as error:
            refused: Future[Outcome] = Future()
            refused.set_result(Refused.of(error))
            return refused
        return self._decoders.submit(source, data, self._settings, is_wanted)

    def _settle(self, source: Source, row: Known | None, outcome: Outcome, batch: _Batch) -> None:
        """Adds a picture to a batch: as a result where it needs no vector, or to be encoded."""
        if isinstance(outcome, Refused):
            batch.results.append(Failed(source, outcome.advice, outcome.again, outcome.unread))
            return
        content_hash = outcome.content_hash
        if row and row.embedded and row.content_hash == content_hash:
            batch.results.append(Same(source, content_hash, row.image_id, is_itself=True))
        elif row is None and (moved := self._contents.take_moved(content_hash)) is not None:
            batch.results.append(Moved(source, content_hash, moved))
        elif isinstance(outcome, Unneeded) or content_hash in self._begun:
            batch.results.append(Same(source, content_hash, self._contents.find(content_hash)))
        else:
            assert outcome.pixels is not None
            if self._encoder is None:
                self._encoder = self._load_encoder()
                self._torch_settings.enter_context(torch_settings(self._encoder.matmul))
            self._begun.add(content_hash)
            batch.results.append((source, outcome))
            batch.pixels.append(outcome.pixels)

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
                reason = f"The model makes numbers that are not finite of it in {precision}"
                results.append(Failed(source, reason, again=True))
        return results

    def _vectors(self, pixels: Sequence[Pixels]) -> Vectors:
        if not pixels:
            return np.empty((0, 0), np.float32)
        assert self._encoder is not None
        # Processors sum in another order when there are fewer rows.
        filled = np.zeros((max(self._size, len(pixels)), *pixels[0].shape), np.uint8)
        np.stack(pixels, out=filled[: len(pixels)])
        with _explained(self._encoder):
            return self._encoder.encode_pixels(filled)[: len(pixels)]


@contextmanager
def _explained(encoder: PictureEncoder) -> Iterator[None]:
    """Turns what torch says of a model that can't run into an error that says what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CommandError(
            f"{encoder.label} can't run on {encoder.device}: {reason}. What was "
            "embedded before is kept. Try a smaller --batch-size, or --device cpu"
        ) from error
