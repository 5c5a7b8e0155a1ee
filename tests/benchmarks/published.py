"""What a published instance costs: its size, how it wakes, its memory, and how it bears a crowd.

    python tests/benchmarks/published.py WORK [--pictures 20000] [--clients 100] [--seconds 60]

Makes in the folder WORK, unless they are there: a ViT-B-32 of random weights, a database of so many
pictures (some embedded, the others made up), what clip-publish makes of it, and an environment with
the base install of this project. Then `datasette -i` serves, in turns, the published file from the
base install and the owner's database from this environment, with torch and no text tower.

Prints installed size, seconds from the start of the process to the first answer to a text, how many
of them are ours, resident memory, milliseconds of further texts, and, for the published one, what
becomes of it when so many clients search by words and by pictures, fetch thumbnails and run SQL
that has nothing to do with pictures.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import numpy as np

ROOT = Path(__file__).parents[2]
WORDS = "dog beach snow red car night old church people eating tree boat flower city rain".split()  # noqa: SIM905
UNRELATED = "select count(*), max(length(path)) from images where camera is null or id % 7 = 3"


def make_model(folder: Path) -> None:
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    model = open_clip.create_model("ViT-B-32")
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    config = {
        "model_cfg": open_clip.get_model_config("ViT-B-32"),
        "preprocess_cfg": {"mean": [0.481, 0.458, 0.408], "std": [0.269, 0.261, 0.276]},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))


def make_database(file: Path, model: Path, count: int) -> None:
    """Embed the demo's pictures, and copy them under other vectors until there are enough."""
    command = [sys.executable, "-m", "sqlite_utils", "embed-images", file, ROOT / "demo/pictures"]
    subprocess.run([*command, "--pretrained", model], check=True)
    facts = "content_hash, size, mtime, width, height, format, taken, camera"
    random_ = np.random.default_rng(0)
    with closing(sqlite3.connect(file)) as connection, connection:
        (known,) = connection.execute("select max(id) from images").fetchone()
        (blob,) = connection.execute("select embedding from clip_embeddings").fetchone()
        middle = np.frombuffer(blob, "<f4")
        for id in range(known + 1, count + 1):
            connection.execute(
                f"insert into images (id, path, {facts}) select ?, ?, {facts} from images "
                "where id = ?",
                [id, f"more/{id}.jpg", 1 + id % known],
            )
            vector = middle + random_.normal(size=len(middle)) / 20
            vector = (vector / np.linalg.norm(vector)).astype("<f4")
            sql = "insert into clip_embeddings (model_id, image_id, embedding) values (1, ?, ?)"
            connection.execute(sql, [id, vector.tobytes()])
            connection.execute(
                "insert into clip_thumbnails select ?, format, data from clip_thumbnails "
                "where image_id = ?",
                [id, 1 + id % known],
            )
    subprocess.run([sys.executable, "-m", "sqlite_utils", "clip-index", file], check=True)


def make_environment(folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin/python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, ROOT], check=True)


def size_of(folder: Path) -> float:
    """Return the MB of what an environment has installed, without pip itself."""
    site = next(folder.glob("lib/python*/site-packages"))
    files = (file for file in site.rglob("*") if file.is_file() and not file.is_symlink())
    return sum(f.stat().st_size for f in files if f.relative_to(site).parts[0][:3] != "pip") / 1e6


@contextmanager
def served(python: Path, file: Path) -> Iterator[tuple[str, int, float]]:
    """Serve a database; yield its address, the process, and when it was started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.monotonic()
    process = subprocess.Popen(
        [python, "-m", "datasette", "-i", file, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=file.parent,
    )
    try:
        yield f"http://127.0.0.1:{port}", process.pid, started
    finally:
        process.terminate()
        process.wait()


def answered(client: httpx.Client, url: str) -> float:
    """Wait for an answer, which is to be a good one, and return when it came."""
    while True:
        try:
            response = client.get(url)
        except httpx.TransportError:
            time.sleep(0.01)
            continue
        response.raise_for_status()
        return time.monotonic()


def resident(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def wake(python: Path, file: Path) -> dict[str, float]:
    """Return what one start costs, and the texts after it."""
    page = f"/-/clip-search/{file.stem}.json?k=10&q="
    with httpx.Client(timeout=120) as client:
        with served(python, file) as (base, _, started):
            plain = answered(client, f"{base}/-/versions.json") - started
        with served(python, file) as (base, pid, started):
            first = answered(client, f"{base}{page}dog+on+beach") - started
            taken = []
            for number in range(60):
                begun = time.perf_counter()
                query = f"{random.choice(WORDS)}+{random.choice(WORDS)}+{number}"
                client.get(f"{base}{page}{query}").raise_for_status()
                taken.append(time.perf_counter() - begun)
            memory = resident(pid)
    return {
        "first text": first,
        "of which ours": first - plain,
        "resident": memory,
        "text p50": statistics.median(taken[10:]) * 1000,
    }


Answers = tuple[dict[str, list[float]], Counter[tuple[str, object]]]


async def ask_all(
    base: str, stem: str, count: int, clients: int, seconds: float, kinds: Sequence[str]
) -> Answers:
    """Ask from all clients at once; return the seconds that answers took, and other outcomes."""
    results: dict[str, list[float]] = {}
    others: Counter[tuple[str, object]] = Counter()
    end = time.monotonic() + seconds
    page = f"/-/clip-search/{stem}"
    # Where 0.65 answers SQL; 1.0 leads on from there.
    sql = f"/{stem}.json"

    async def ask(client: httpx.AsyncClient, seed: int) -> None:
        chance = random.Random(seed)
        await asyncio.sleep(chance.uniform(0, 2))
        while time.monotonic() < end:
            kind = chance.choice(kinds)
            id = chance.randint(1, count)
            words = "+".join(chance.sample(WORDS, 3)) + f"+{chance.randint(0, 999)}"
            url = {
                "text": f"{page}.json?q={words}",
                "similar": f"{page}.json?like={id}",
                "thumbnail": f"{page}/thumbnail/{id}",
                "sql": f"{sql}?_shape=array&sql={UNRELATED.replace('%', '%25')}",
            }[kind]
            begun = time.monotonic()
            try:
                response = await client.get(base + url)
                if response.status_code == 200:
                    results.setdefault(kind, []).append(time.monotonic() - begun)
                else:
                    others[kind, response.status_code] += 1
            except httpx.HTTPError as error:
                others[kind, type(error).__name__] += 1
            # As people do, who look at what they got.
            await asyncio.sleep(chance.uniform(0, 2))

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(timeout=60, limits=limits, follow_redirects=True) as client:
        await asyncio.gather(*(ask(client, seed) for seed in range(clients)))
    return results, others


def ask_in_process(*arguments: object) -> Answers:
    return asyncio.run(ask_all(*arguments))  # type: ignore[arg-type]


def crowd(base: str, stem: str, count: int, clients: dict[Sequence[str], int], seconds: float,
          ) -> dict[str, float]:  # fmt: skip
    """Ask from groups of clients at once; print their answers and return the 95th percentiles.

    Each group has a process of its own, so that none waits for what others do with their answers.
    """
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        groups = [
            pool.submit(ask_in_process, base, stem, count, number, seconds, kinds)
            for kinds, number in clients.items()
        ]
        found = [group.result() for group in groups]
    p95 = {}
    for results, others in found:
        for kind, taken in sorted(results.items()):
            taken.sort()
            p95[kind] = taken[int(0.95 * len(taken))] * 1000
            rest = {str(code): n for (k, code), n in others.items() if k == kind}
            print(
                f"  {kind:<10}{len(taken):>6} answers, p50 {statistics.median(taken) * 1000:>6.1f}"
                f" ms, p95 {p95[kind]:>6.1f} ms, others {rest or 'none'}"
            )
    return p95


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    model, photos, published = work / "model", work / "photos.db", work / "published.db"
    towerless, environment = work / "towerless.db", work / "base"
    if not model.exists():
        make_model(model)
    if not photos.exists():
        make_database(photos, model, arguments.pictures)
    if not published.exists():
        command = [sys.executable, "-m", "sqlite_utils", "clip-publish", photos, published]
        subprocess.run(command, check=True)
    if not towerless.exists():
        shutil.copy(photos, towerless)
        with closing(sqlite3.connect(towerless)) as connection, connection:
            connection.execute("delete from clip_towers")
        subprocess.run([sys.executable, "-m", "sqlite_utils", "clip-index", towerless], check=True)
    if not environment.exists():
        make_environment(environment)
    ways = {
        "published, base install": (environment / "bin/python", published),
        "owner's, with torch": (Path(sys.executable), towerless),
    }
    rounds = [{name: wake(*way) for name, way in ways.items()} for _ in range(arguments.rounds)]
    print(f"{arguments.pictures} pictures; medians of {arguments.rounds} rounds in turns")
    columns = ("installed, MB", "file, MB", "first text, s", "of which ours, s", "resident, MB")
    print(f"{'':24}" + "".join(f"{column:>18}" for column in (*columns, "text p50, ms")))
    for name, (python, file) in ways.items():
        middle = {
            key: statistics.median(found[name][key] for found in rounds) for key in rounds[0][name]
        }
        print(
            f"{name:24}{size_of(python.parents[1]):>18.0f}{os.path.getsize(file) / 1e6:>18.0f}"
            f"{middle['first text']:>18.2f}{middle['of which ours']:>18.2f}"
            f"{middle['resident']:>18.0f}{middle['text p50']:>18.1f}"
        )
    python, file = ways["published, base install"]
    size, seconds = arguments.pictures, arguments.seconds
    quarter = arguments.clients // 4
    alone = {("sql",): quarter}
    mixed = {**alone, ("text", "similar", "thumbnail"): arguments.clients - quarter}
    ratios = []
    with served(python, file) as (base, pid, _):
        with httpx.Client(timeout=120) as client:
            answered(client, f"{base}/-/clip-search/{file.stem}.json?q=dog")
        before = resident(pid)
        for _ in range(arguments.rounds):
            print(f"{quarter} clients, SQL alone")
            quiet = crowd(base, file.stem, size, alone, seconds / arguments.rounds)
            print(f"{arguments.clients} clients, a quarter of them SQL")
            busy = crowd(base, file.stem, size, mixed, seconds)
            ratios.append(busy["sql"] / quiet["sql"])
        print(f"p95 of SQL, mixed to alone: {statistics.median(ratios):.2f} (limit 2)")
        print(f"resident memory {before:.0f} MB before, {resident(pid):.0f} MB after")


if __name__ == "__main__":
    main()
