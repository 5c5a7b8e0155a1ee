"""Decode ahead of the model: while it loads, and then to keep every core busy."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

import numpy as np

from ..common.arrays import Pixels
from ..common.config import CONFIG
from ..common.errors import PictureError
from ..pictures.preprocess import Preprocess
from ..pictures.processes.pool import Decoded, DecodeFailure, DecoderPool, Outcome, Settings
from ..pictures.sources import Source
from .outcomes import KnownPicture
from .plan import Contents, Work


@dataclass
class PendingPicture:
    """A picture that is being decoded; `data` is its content if that has been read."""

    source: Source
    row: KnownPicture | None
    data: bytes | None
    future: Future[Outcome]


class Ahead:
    """Yields the pictures of the work in order, and decodes a bounded number of them ahead."""

    def __init__(
        self,
        decoders: DecoderPool,
        settings: Settings,
        contents: Contents,
        work: Sequence[Work],
        is_stopped: Callable[[], bool],
    ):
        """Take settings with the preprocessing expected of the model, until `use` replaces it.

        Once `is_stopped` returns true, it yields no more pictures, decoded or not.
        """
        self._decoders = decoders
        self._settings = settings
        self._contents = contents
        self._work = iter(work)
        self.is_stopped = is_stopped
        self._waiting: deque[PendingPicture] = deque()
        self._held_bytes = 0
        # How many pictures may wait, whatever their size.
        self.least = 0

    def __iter__(self) -> Iterator[PendingPicture]:
        while not self.is_stopped():
            self.fill()
            if not self._waiting:
                break
            picture = self._waiting.popleft()
            self._held_bytes -= len(picture.data or b"")
            yield picture
        for picture in self._waiting:
            picture.future.cancel()

    def fill(self) -> None:
        """Start decoding as many pictures as may wait; return at once."""
        preprocess = self._settings.preprocess
        assert preprocess is not None
        each = preprocess.height * preprocess.width * 3 + CONFIG.thumbnail_bytes
        while (
            len(self._waiting) < self.least
            or len(self._waiting) * each + self._held_bytes < CONFIG.waiting_bytes
        ) and (work := next(self._work, None)):
            picture = self._submit(*work)
            self._waiting.append(picture)
            self._held_bytes += len(picture.data or b"")

    def put_back(self, picture: PendingPicture) -> None:
        """Take back the picture that came last, to yield it again."""
        self._waiting.appendleft(picture)
        self._held_bytes += len(picture.data or b"")

    def use(self, preprocess: Preprocess) -> None:
        """Use the preprocessing of the model; decode again what was decoded with another."""
        expected = self._settings.preprocess
        self._settings = replace(self._settings, preprocess=preprocess)
        if expected and expected.shows_the_same(preprocess):
            return
        for picture in self._waiting:
            picture.future.cancel()
        for picture in self._waiting:
            # A source that is read in order can be read only once.
            if not picture.source.in_order or picture.data is not None:
                picture.future = self._decode(picture.source, picture.row, picture.data)

    def sample(self, count: int) -> Pixels | None:
        """Return at most `count` of the waiting pictures, (n, height, width, 3) uint8, or None.

        They are spread evenly over the decoded ones if there are more.
        """
        ready = [picture for picture in self._waiting if picture.future.done()]
        if len(ready) < count:
            ready = list(self._waiting)[:count]
        step = max(1, len(ready) // count)
        return stacked([picture.future.result() for picture in ready[::step][:count]])

    def _submit(self, source: Source, row: KnownPicture | None) -> PendingPicture:
        data = None
        if source.in_order:
            try:
                data = source.read()
            except PictureError as error:
                refused: Future[Outcome] = Future()
                refused.set_result(DecodeFailure.of(error))
                return PendingPicture(source, row, None, refused)
        return PendingPicture(source, row, data, self._decode(source, row, data))

    def _decode(
        self, source: Source, row: KnownPicture | None, data: bytes | None
    ) -> Future[Outcome]:
        def is_wanted(content_hash: str) -> bool:
            if row and row.embedded and row.content_hash == content_hash:
                return False
            return self._contents.find(content_hash) is None

        return self._decoders.submit(source, data, self._settings, is_wanted)


def stacked(outcomes: Sequence[Outcome]) -> Pixels | None:
    """Return the decoded ones, (n, height, width, 3) uint8, or None if there are none."""
    pixels = [outcome.pixels for outcome in outcomes if isinstance(outcome, Decoded)]
    return np.stack([picture for picture in pixels if picture is not None]) if pixels else None
