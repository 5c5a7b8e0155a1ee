"""Searching ten thousand to ten million pictures, beside peers: time, memory and recall.

    python tests/benchmarks/scale/run.py --cache FOLDER [--sizes 10000 100000 1000000]
        [--index auto] [--memory 2GB] [--only ours faiss …] [--seconds 60]

Fills a database of each size with synthetic vectors (geometry.py) in the project's own tables, has
`sqlite-utils clip-index` build its index, and asks everyone the same queries in turns, pictures and
texts by turns. What a contestant may take is limited, in seconds for a size. What was made is kept
in the folder for the next run; its figures too, so that report.py can put several runs together.
"""

import argparse
import itertools
import json
import math
import os
import platform
import random
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from contestants import CONTESTANTS, Contestant, Job, Search, Unusable, install
from database import make, queries, truth

from datasette_clip_search.database.index import index_path

THREADS = 8
# Turns that each takes with so many threads, so that what disturbs one disturbs all.
SLICES = 5
# Asked before anything is measured, so that files are in memory and libraries loaded.
WARM_UP = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--index", default="auto")
    parser.add_argument("--memory")
    parser.add_argument("--only", nargs="+", choices=[c.key for c in CONTESTANTS])
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    cache = arguments.cache
    cache.mkdir(exist_ok=True)
    install(cache)
    chosen = [c for c in CONTESTANTS if not arguments.only or c.key in arguments.only]
    for size in arguments.sizes:
        file = cache / f"{size}.db"
        make(file, size)
        built = build(file, arguments.index, arguments.memory)
        print(json.dumps(built), flush=True)
        asked, answers = queries(), truth(file)
        figures: dict[str, Any] = {"size": size, "about": about(), "built": built}
        figures["memory"] = memory_of(file)
        print(json.dumps(figures["memory"]), flush=True)
        job = Job(file, size, cache)
        figures["contestants"] = measure(chosen, job, asked, answers, arguments.seconds)
        name = f"figures-{size}-{arguments.index}{arguments.memory or ''}.json"
        if arguments.only:
            name = f"some-{name}"
        (cache / name).write_text(json.dumps(figures, indent=1))


def build(file: Path, kind: str, memory: str | None) -> dict[str, Any]:
    """Build an index, unless there is one of the same choice; return what that took."""
    kept = file.with_name(f"built-{file.stem}-{kind}{memory or ''}.json")
    index = index_path(file, 1)
    if kept.exists() and index.exists():
        built: dict[str, Any] = json.loads(kept.read_text())
        if built["index_inode"] == index.stat().st_ino:
            return built
    command = [sys.executable, "-m", "sqlite_utils", "clip-index", str(file), "--json", "--silent"]
    command += ["--index", kind, *(["--memory", memory] if memory else [])]
    before = os.times()
    with open(kept, "w") as output:
        process = subprocess.Popen(command, stdout=output)
        status, peak = watched(process.pid)
    if status:
        sys.exit(f"clip-index failed for {file}")
    after = os.times()
    built = json.loads(kept.read_text())
    raw = built["pictures"] * 512 * 4
    built["peak_bytes"] = peak
    built["cpu_seconds"] = after.children_user - before.children_user
    built["index_inode"] = index.stat().st_ino
    built["vectors_to_raw"] = table_bytes(file) / raw
    built["database_bytes"] = file.stat().st_size
    kept.write_text(json.dumps(built))
    return built


def watched(process: int) -> tuple[int, int]:
    """Wait for a process; return how it ended, and the most memory of its own that it had.

    Files that it maps do not count where the system tells them apart.
    """
    status, peak = Path(f"/proc/{process}/status"), 0
    while True:
        ended, code, usage = os.wait4(process, os.WNOHANG)
        if ended:
            return code, peak or usage.ru_maxrss << 10
        if status.exists():
            for line in status.read_text().splitlines():
                if line.startswith("RssAnon:"):
                    peak = max(peak, int(line.split()[1]) << 10)
        time.sleep(0.02)


def table_bytes(file: Path) -> float:
    """Return the bytes of the vectors' table and its key; nan where SQLite can't tell."""
    # Not the sum of bytes, which SQLite keeps in 32 bits: in this mode pageno counts pages.
    sql = """select sum(pageno) * (select page_size from pragma_page_size)
        from dbstat('main', 1) where name in
        ('clip_embeddings', 'sqlite_autoindex_clip_embeddings_1')"""
    with closing(sqlite3.connect(file)) as connection:
        try:
            return float(connection.execute(sql).fetchone()[0])
        except sqlite3.OperationalError:
            return math.nan


MEMORY = """
import sqlite3, sys, time
import numpy, faiss
def held():
    of = dict(Anonymous=0, Rss=0)
    for line in open("/proc/self/smaps_rollup"):
        name = line.split(":")[0]
        if name in of:
            of[name] = int(line.split()[1]) << 10
    return of
from datasette_clip_search.sql import add_functions
from datasette_clip_search.search import nearest
connection = sqlite3.connect(sys.argv[1])
add_functions(connection)
vectors = numpy.load(sys.argv[2])
before = held()
times = []
for vector in vectors:
    started = time.perf_counter()
    connection.execute("select * from clip_search(?)", [vector.tobytes()]).fetchall()
    times.append(time.perf_counter() - started)
after = held()
print(times[0], *(after[name] - before[name] for name in ("Anonymous", "Rss")))
"""


def memory_of(file: Path) -> dict[str, float]:
    """Return what a new process's first search takes, and the memory its searches add."""
    if not Path("/proc/self/smaps_rollup").exists():
        return {}
    asked = file.with_name("asked.npy")
    np.save(asked, queries())
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(file), str(asked)], capture_output=True, text=True
    )
    asked.unlink()
    if done.returncode:
        raise RuntimeError(done.stderr)
    first, private, resident = map(float, done.stdout.split())
    return {"first_seconds": first, "private_bytes": private, "resident_bytes": resident}


def measure(
    chosen: list[Contestant], job: Job, asked: Any, answers: Any, seconds: float
) -> dict[str, Any]:
    """Ask everyone every query in turns; who has used up the seconds is asked no more."""
    figures: dict[str, Any] = {}
    searches: dict[str, Search] = {}
    for contestant in chosen:
        figures[contestant.key] = {"name": contestant.name, "versions": contestant.versions}
        started = time.perf_counter()
        try:
            search = contestant.ready(job)
            figures[contestant.key]["ready_seconds"] = time.perf_counter() - started
            for vector in asked[-WARM_UP:]:
                search(vector)
                if time.perf_counter() - started > seconds:
                    break
        except Unusable as error:
            figures[contestant.key]["problem"] = str(error)
            print(f"{contestant.name}: {error}")
            continue
        searches[contestant.key] = search
        print(f"{contestant.name}: ready after {time.perf_counter() - started:.1f} s", flush=True)
    times: dict[str, list[float]] = {key: [] for key in searches}
    cpu: dict[str, list[float]] = {key: [] for key in searches}
    found: dict[str, list[float]] = {key: [] for key in searches}
    order = random.Random(0)
    for number, (vector, truly) in enumerate(zip(asked, answers, strict=True)):
        # In a new order each time: whoever comes after one that reads a lot finds nothing of its
        # own in the processor's cache.
        for key in order.sample(list(searches), len(searches)):
            search = searches[key]
            if sum(times[key]) > seconds * 1000:
                continue
            before = time.process_time()
            started = time.perf_counter()
            ids = search(vector)
            times[key].append((time.perf_counter() - started) * 1000)
            cpu[key].append((time.process_time() - before) * 1000)
            found[key].append(len(set(ids) & set(truly.tolist())) / len(truly))
        if number % 50 == 49:
            print(number + 1, {key: round(float(np.median(t)), 2) for key, t in times.items()})
    for key in searches:
        # Of the same rounds, one by one: what disturbs both cancels out.
        rounds = min(len(times[key]), len(times.get("ours", times[key])))
        ours = np.array(times.get("ours", times[key])[:rounds])
        figures[key] |= {
            "rounds": len(times[key]),
            "p50": float(np.median(times[key])),
            "p95": float(np.quantile(times[key], 0.95)),
            "cpu": float(np.median(cpu[key])),
            "ours_to_it": float(np.median(ours / np.array(times[key][:rounds]))),
            "recall_pictures": float(np.mean(found[key][::2])),
            "recall_texts": float(np.mean(found[key][1::2])),
        }
    several = {c.key: c for c in chosen if c.key in searches and c.key in ("ours", "faiss", "sql")}
    asking = {key: [c.ready(job) for _ in range(THREADS)] for key, c in several.items()}
    slices: dict[str, list[tuple[list[float], float]]] = {key: [] for key in asking}
    for _ in range(SLICES):
        for key in asking:
            slices[key].append(together(asking[key], asked, seconds / 4 / SLICES))
    for key, measured in slices.items():
        taken = [time for times, _ in measured for time in times]
        figures[key] |= {
            "p50_8": float(np.median(taken)),
            "p95_8": float(np.quantile(taken, 0.95)),
            "each_second_8": len(taken) / sum(took for _, took in measured),
        }
        print(key, {name: figures[key][name] for name in ("p50_8", "p95_8", "each_second_8")})
    return figures


def together(searches: list[Search], asked: Any, seconds: float) -> tuple[list[float], float]:
    """Ask from several threads at a time, each with a connection of its own.

    Returns the milliseconds of every search, and how many seconds they took together.
    """
    times: list[float] = []
    start = threading.Barrier(len(searches) + 1)

    def ask(own: int) -> None:
        start.wait()
        for vector in itertools.cycle(np.roll(asked, own * 25, axis=0)):
            started = time.perf_counter()
            if started > until:
                break
            searches[own](vector)
            times.append((time.perf_counter() - started) * 1000)

    threads = [threading.Thread(target=ask, args=[number]) for number in range(len(searches))]
    for thread in threads:
        thread.start()
    started = time.perf_counter()
    until = started + seconds
    start.wait()
    for thread in threads:
        thread.join()
    return times, time.perf_counter() - started


def about() -> str:
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"FAISS {faiss.__version__}, {time.strftime('%Y-%m-%d')}, load before {load:.1f}"
    )


if __name__ == "__main__":
    main()
