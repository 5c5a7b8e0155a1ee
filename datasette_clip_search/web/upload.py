"""Receive pictures that visitors upload to search with, within limits for all of them together."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from datasette.utils.asgi import Request

from ..common.config import CONFIG
from ..common.errors import ClipSearchError, TooBusy


class UploadRefused(ClipSearchError):
    "An uploaded picture is refused; `status` is the HTTP status"

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


_TOO_MANY = "Too many pictures are being uploaded here now. Try again in a moment"

# Uploads in progress, the oldest first, each with its start time and its bytes so far; and the
# counted size of each upload that has arrived and waits for its search.
_arriving: dict[asyncio.Timeout, tuple[float, int]] = {}
_waiting: list[int] = []


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[bytes]:
    """Yield the body of a request, and count it towards the limit until the block ends.

    Raises UploadRefused for an upload that is too large or too slow, or if there are too many.
    """
    data = await _received(request)
    size = max(len(data), CONFIG.least_upload_bytes)
    # Twice its size, so that large uploads leave room for smaller ones.
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
            f"The upload took longer than the limit of {CONFIG.upload_seconds:g} seconds", 408
        ) from None
    finally:
        _arriving.pop(arriving, None)
    if not data.tell():
        raise UploadRefused("The body of the request is empty. Expected a picture", 400)
    return data.getvalue()


def _hold(arriving: asyncio.Timeout, size: int) -> None:
    """Count bytes that have arrived; above the limit for all visitors, cancel costly uploads.

    The cost of an upload is its bytes times its age, so that nobody can block other visitors with
    large or slow uploads.
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
    # Datasette's own methods to read a body are unsuitable: one release line has a lower limit, the
    # other has none.
    declared = request.headers.get("content-length") or ""
    if declared.isdecimal():
        _check_size(int(declared))
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise UploadRefused("The upload ended before the whole picture arrived", 400)
        if chunk := message.get("body"):
            yield chunk
        more = message.get("more_body", False)


def _check_size(size: int) -> None:
    limit = CONFIG.max_query_image_bytes
    if size > limit:
        raise UploadRefused(
            f"The picture is larger than the limit of {limit:,} bytes. Send a smaller one", 413
        )
