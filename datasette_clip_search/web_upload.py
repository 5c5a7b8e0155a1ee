"""Receives the pictures that visitors send to search with."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from datasette.utils.asgi import Request

from .config import CONFIG
from .errors import ClipSearchError


class UploadRefused(ClipSearchError):
    "A picture that was sent is not taken; `status` is HTTP's"

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


_held = 0  # Bytes of pictures in memory, of all visitors.


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[bytes]:
    """Yields the body of a request, and counts it to what visitors may send until it is let go of.

    Raises UploadRefused for one that is too large or too slow, or comes with too many others.
    """
    global _held
    chunks: list[bytes] = []
    size = 0
    try:
        try:
            async with asyncio.timeout(CONFIG.upload_seconds):
                async for chunk in _chunks(request):
                    size += len(chunk)
                    _held += len(chunk)
                    _check_size(size)
                    if _held > CONFIG.max_uploads_bytes:
                        raise UploadRefused(
                            "Too many pictures are being sent here now. Try again in a moment", 503
                        )
                    chunks.append(chunk)
        except TimeoutError:
            raise UploadRefused(
                f"The picture did not arrive within {CONFIG.upload_seconds:g} seconds", 408
            ) from None
        if not chunks:
            raise UploadRefused("Send a picture: the body of the request is empty", 400)
        yield b"".join(chunks)
    finally:
        _held -= size


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
