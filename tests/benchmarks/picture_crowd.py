"""How ordinary pictures fare while others send slow ones to the search page, or to SQL.

    python tests/benchmarks/picture_crowd.py [--database DATABASE.db] [--clients 12]

Serves the demo's pictures (from a temporary folder, unless a database is given). So many clients
send a slow picture, again as soon as it is answered, while one sends 27 ordinary photos, one after
the other; then a hundred send a tiny one, all at once. Prints how many were answered, and when.
Takes two minutes.
"""

import argparse
import io
import random
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from anonymous_sql import made_database, served
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from support import bombs

PHOTOS = 27
PORT = 8498


def photo(seed: int, size: tuple[int, int], **options: object) -> bytes:
    """Make a JPEG with the detail of a photo."""
    noise = Image.frombytes("RGB", (160, 120), random.Random(seed).randbytes(160 * 120 * 3))
    file = io.BytesIO()
    noise.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=85, **options)
    return file.getvalue()


def pieces() -> bytes:
    """Make a PNG whose pixels come a byte at a time."""
    file = io.BytesIO()
    Image.new("L", (2400, 2400), 90).save(file, "PNG", compress_level=0)
    data = file.getvalue()
    body = zlib.compress(bytes(2401 * 2400), 0)[:600_000]

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    small = b"".join(chunk(b"IDAT", body[at : at + 1]) for at in range(len(body)))
    return data[:33] + small + chunk(b"IEND", b"")


def send(url: str, data: bytes) -> tuple[object, float]:
    begun = time.monotonic()
    try:
        answer = httpx.post(
            url, content=data, headers={"content-type": "application/octet-stream"}, timeout=60
        )
        return answer.status_code, time.monotonic() - begun
    except httpx.HTTPError as error:
        return type(error).__name__, time.monotonic() - begun


def report(name: str, answers: list[tuple[object, float]], others: Counter[object]) -> None:
    seconds = sorted(taken for code, taken in answers if code == 200)
    codes = dict(Counter(code for code, _ in answers))
    middle = f"{seconds[len(seconds) // 2]:.2f}" if seconds else "-"
    longest = f"{seconds[-1]:.2f}" if seconds else "-"
    print(f"| {name} | {codes} | {middle} | {longest} | {dict(others)} |", flush=True)


def beside(slow: Callable[[int], object], clients: int, url: str, photos: list[bytes]):
    """Send photos one after the other while clients do what is slow."""
    done, others = threading.Event(), Counter[object]()

    def repeat(number: int) -> None:
        while not done.is_set():
            code = slow(number)
            others[code] += 1
            if code != 400:
                # Refused at once, as a client that tries again in a moment.
                time.sleep(0.05)

    with ThreadPoolExecutor(clients) as threads:
        repeating = [threads.submit(repeat, number) for number in range(clients)]
        time.sleep(1.5)
        answers = [send(url, photo) for photo in photos]
        done.set()
        for each in repeating:
            each.result()
    return answers, others


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", type=Path)
    parser.add_argument("--clients", type=int, default=12)
    arguments = parser.parse_args()
    scans, png = bombs.scans(), pieces()
    sizes = [(500, 375), (1600, 1200), (4000, 3000)]
    photos = [photo(n, sizes[n % 3], progressive=n % 2 == 0) for n in range(PHOTOS)]
    with tempfile.TemporaryDirectory() as folder:
        database = (arguments.database or made_database(Path(folder))).absolute()
        with served(database, PORT) as server:
            url = f"{server.base}/-/clip-search/{database.stem}.json"
            while send(url, photos[0])[0] != 200:
                time.sleep(0.5)
            print("| meanwhile | 27 photos: answers | p50, s | longest, s | the others |")
            print("| --- | --- | ---: | ---: | --- |")
            report("nothing", [send(url, photo) for photo in photos], Counter())
            slow: dict[str, Callable[[int], object]] = {
                "the same slow JPEG": lambda _: send(url, scans)[0],
                "slow JPEGs, each another": lambda n: send(
                    url, scans + f"{n} {time.time()}".encode()
                )[0],
                "PNGs of 8 MB in pieces of a byte": lambda n: send(
                    url, png + f"{n} {time.time()}".encode()
                )[0],
            }
            for name, ask in slow.items():
                report(name, *beside(ask, arguments.clients, url, photos))
            with ThreadPoolExecutor(100) as threads:
                tiny = [photo(n, (32, 24)) for n in range(100)]
                answers = list(threads.map(lambda data: send(url, data), tiny))
            report("100 tiny ones at once", answers, Counter())


if __name__ == "__main__":
    main()
