"""Receives the pictures that visitors send to search with."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from datasette.utils.asgi import Request

from ..common.config import CONFIG
from ..common.errors import ClipSearchError, TooBusy


class UploadRefused(ClipSearchError):
    "A picture that was sent is not taken; `status` is HTTP's"

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


_TOO_MANY = "Too many pictures are being sent here now. Try again in a moment"

# Of all visitors: the pictures that are being sent, the oldest first, with when they began and
# their bytes so far; and what those count for that have arrived and wait to be searched with.
_arriving: dict[asyncio.Timeout, tuple[float, int]] = {}
_waiting: list[int] = []


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[bytes]:
    """Yields the body of a request, and counts it to what visitors may send until it is let go of.

    Raises UploadRefused for one that is too large or too slow, or comes with too many others.
    """
    data = await _received(request)
    size = max(len(data), CONFIG.least_upload_bytes)
    # Twice, so that large ones leave room for smaller ones.
    if sum(_waiting) + 2 * size > CONFIG.max_uploads_bytes:
        raise UploadRefused(_TOO_MANY, 503)
    _waiting.append(size)
    try:
        yield data
    except TooBusy as error:
        raise UploadRefused(str(error), 503) from None
    finally:
        _waiting.remove(size)


async def _received(request: Request) -> bytes:
    data = io.BytesIO()
    arriving = asyncio.timeout(CONFIG.upload_seconds)
    _arriving[arriving] = asyncio.get_running_loop().time(), 0
    try:
        async with arriving:
            async for chunk in _chunks(request):
                data.write(chunk)
                _check_size(data.tell())
                _hold(arriving, len(chunk))
    except TimeoutError:
        if arriving not in _arriving:
            raise UploadRefused(_TOO_MANY, 503) from None
        raise UploadRefused(
            f"The picture did not arrive within {CONFIG.upload_seconds:g} seconds", 408
        ) from None
    finally:
        _arriving.pop(arriving, None)
    if not data.tell():
        raise UploadRefused("Send a picture: the body of the request is empty", 400)
    return data.getvalue()


def _hold(arriving: asyncio.Timeout, size: int) -> None:
    """Counts bytes that have come; where all are too many, some pictures are given up.

    They are those that have held the most bytes for the longest time: nobody keeps others from
    sending theirs by sending large ones, or by sending some slowly.
    """
    if arriving in _arriving:
        began, before = _arriving[arriving]
        _arriving[arriving] = began, before + size
    now = asyncio.get_running_loop().time()
    while sum(size for _, size in _arriving.values()) + sum(_waiting) > CONFIG.max_uploads_bytes:
        costly = max(_arriving, key=lambda each: (now - _arriving[each][0]) * _arriving[each][1])
        del _arriving[costly]
        if costly is not arriving:
            costly.reschedule(now)
    if arriving not in _arriving:
        raise UploadRefused(_TOO_MANY, 503)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    # Neither line of Datasette reads a body of this size by itself: one has a limit of its own,
    # the other none.
    declared = request.headers.get("content-length") or ""
    if declared.isdecimal():
        _check_size(int(declared))
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise UploadRefused("The picture was not sent to its end", 400)
        if chunk := message.get("body"):
            yield chunk
        more = message.get("more_body", False)


def _check_size(size: int) -> None:
    limit = CONFIG.max_query_image_bytes
    if size > limit:
        raise UploadRefused(
            f"The picture has more than {limit:,} bytes, the limit here. Send a smaller one", 413
        )
