"""What a visitor who may run SQL can do to another one: `select 1`, and a page without SQL.

    python tests/benchmarks/anonymous_sql.py [--database PUBLISHED.db] [--only WORDS] [--rounds 2]

Serves a published database of the demo's pictures (made in a temporary folder, unless one is given)
with Datasette's own limits, one second and three SQL threads. In turns, three visitors send each
statement, of at most 2,000 characters, so many rounds at once, while two others look on: one sends
`select 1` every 30 ms, one asks for /-/versions.json. Plain SQLite comes first: the worst of its
statements that the time limit can end is the yardstick. Others of them go on for longer.

Prints a table in Markdown; takes three minutes or less.
"""

import argparse
import io
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

VISITORS = 3
# What one request may take before it is given up, and all of them.
SECONDS, SECONDS_IN_ALL = 60, 240
MOST_CHARACTERS = 2_000


def made_database(folder: Path) -> Path:
    database, published = folder / "demo.db", folder / "published.db"
    tool = [sys.executable, "-m", "sqlite_utils"]
    model = ["--model", "demo", "--pretrained", ROOT / "demo/model", "--with-image-search"]
    commands = [
        [*tool, "embed-images", database, ROOT / "demo/pictures", *model],
        [*tool, "clip-publish", database, published, "--with-image-search"],
    ]
    for command in commands:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return published


def side_by_side(count: int, call: str) -> str:
    """Return a call several times in a row; {n} in it is another number each time."""
    return ", ".join(f"length({call.replace('{n}', str(n))})" for n in range(count))


def slow_picture() -> str:
    """Return SQL for a progressive JPEG whose last pass over its pixels is there 3,000 times."""
    file = io.BytesIO()
    Image.new("L", (6000, 6000), 90).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last, table = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xc4")
    # Without the first pass, which has a bit for every block.
    head, scan = data[: data.index(b"\xff\xc4")] + data[table:last], data[last:-2]
    passes = f"replace(hex(zeroblob(1500)), '0', x'{scan.hex()}')"
    return f"cast(x'{head.hex()}' || {passes} || x'ffd9' || '{{salt}}' || i as blob)"


COUNT_UP = "with recursive n(i) as (select 1 union all select i + 1 from n) "
# By replacing every byte of a blob's hex, a few characters make as many million.
LONG_NUMBERS = (
    "'[' || replace(hex(zeroblob(3000)), '00', replace(hex(zeroblob(1500)), '00', '12') || ',')"
    " || '1]'"
)
MILLION_IDS = "'[' || replace(hex(zeroblob(999000)), '00', '7654321, ') || '1]'"
ARRAYS = "'[' || replace(hex(zeroblob(490000)), '00', '[[[[[],') || '1]'"
SPACES = "'[1,' || replace(hex(zeroblob(4900000)), '0', ' ') || 'x]'"
MOJIBAKE = "replace(hex(zeroblob(220)), '0', 'â€œÃ')"
WORDS = "replace(hex(zeroblob(120)), '00', ' q' || {salt} || char(97 + i % 26))"


def materialised(argument: str, columns: str) -> str:
    return f"with b(j) as materialized (select {argument}) select {columns} from b"


LABELS = (
    "(with recursive t(n) as (select 1 union all select n + 1 from t limit 100) "
    "select json_group_array('{salt} thing ' || n || ' of ' || {i}) from t)"
)

PLAIN = {
    "endless recursion": COUNT_UP + "select max(i) from n",
    "endless recursion, sorted": COUNT_UP + "select i from n order by i % 7 limit 1",
    "join of a table with itself, five times": "select count(*) from images a, images b, images c, "
    "images d, images e where a.id + b.id + c.id + d.id + e.id < 0",
    "json_each of 10 MB": f"select sum(value) from json_each({MILLION_IDS})",
    "sorted blobs of 200 KB": COUNT_UP
    + "select i, randomblob(200000) as b from n order by b limit 1",
}

# Between functions side by side, SQLite does not look at the time limit.
UNENDED = {
    "16 x replace() of 16 MB": materialised(
        "hex(zeroblob(8000000))", side_by_side(16, "replace(j, '0', 'ab{n}')")
    ),
}

OURS = {
    "14 x within: numbers of 3,000 digits": materialised(
        LONG_NUMBERS, side_by_side(14, "clip_search_json(1, 1, null, j)")
    ),
    "14 x within: a million ids, the same": materialised(
        MILLION_IDS, side_by_side(14, "clip_search_json(1, 1, null, j)")
    ),
    "14 x within: a million ids, each others": materialised(
        MILLION_IDS.replace(" || '1]'", ""),
        side_by_side(14, "clip_search_json(1, 1, null, j || '{salt}{n}]')"),
    ),
    "14 x within: arrays in arrays": materialised(
        ARRAYS, side_by_side(14, "clip_search_json(1, 1, null, j)")
    ),
    "14 x within: 10 MB of spaces": materialised(
        SPACES, side_by_side(14, "clip_search_json(1, 1, null, j)")
    ),
    "40 x within: 16 MB": materialised(
        "hex(zeroblob(8000000))", side_by_side(40, "clip_search_json(1, 1, null, j)")
    ),
    "clip_search, a million ids within, over and over": COUNT_UP
    + f", b(j) as materialized (select {MILLION_IDS}) "
    "select sum(s.score) from n, b, clip_search('dog', 1, null, b.j || substr('    ', i % 4)) s",
    "in (a million ids)": "with recursive n(i) as (select 1 union all select i + 1 from n "
    "limit 1000000) select count(*) from clip_search('dog', 10) where id in (select i from n)",
    "k of a million, 40 in a row": "select " + side_by_side(40, "clip_search_json('dog', 1000000)"),
    "clip_search over and over": COUNT_UP
    + "select sum(s.z_score) from n, clip_search('dog', 1000 + i % 2) s",
    "clip_search, nested": "select count(*) from clip_search('dog', 1000) a, clip_search(a.id, 1000"
    ") b, clip_search(b.id, 1000) c order by c.z_score",
    "40 x clip_vector of 16 MB of text": materialised(
        "hex(zeroblob(8000000))", side_by_side(40, "clip_vector(j)")
    ),
    "40 x clip_vector of a gigabyte of zeros": "select "
    + side_by_side(40, "clip_vector(zeroblob(999999000))"),
    "40 x clip_vector of 10 MB, no picture": "select "
    + side_by_side(40, "clip_vector(zeroblob(9999999 - {n}))"),
    "clip_vector of slow pictures": f"with n(i) as (select 1) select clip_vector({slow_picture()}) "
    "from n",
    "20 x clip_vector of new mojibake": materialised(
        MOJIBAKE, side_by_side(20, "clip_vector('{salt}{n}' || j)")
    ),
    "clip_vector of new words over and over": COUNT_UP
    + f"select max(clip_vector(i || {WORDS})) from n",
    "5 x clip_mix of 16 new texts": "with recursive n(i) as (select 1 union all select i + 1 from "
    "n limit 1), b(j) as materialized (select '{salt}' || replace(hex(zeroblob(60)), '00', ' q') "
    "from n) select "
    + side_by_side(
        5, "clip_mix(" + ", ".join(f"'{{n}}' || {term} || j, 1" for term in range(16)) + ")"
    )
    + " from b",
    "clip_mix of words and a blob over and over": COUNT_UP
    + "select max(clip_mix(i % 9 + 1, 1, 'dog ' || (i % 50), 1, clip_vector(9 - i % 9), .5)) "
    "from n",
    "5 x clip_tags of 100 new labels": "select "
    + ", ".join(
        f"(select max(score) from clip_tags(1, {LABELS.replace('{i}', str(i))}))" for i in range(5)
    ),
    "clip_tags over and over": COUNT_UP
    + f"select count(*) from n, clip_tags(1, {LABELS.replace('{i}', '0')}) t",
    "clip_similarity of all pairs": "select max(clip_similarity(a.id, b.id)) from images a, "
    "images b",
    "clip_similarity to sort by": COUNT_UP
    + "select i from n order by clip_similarity('dog', i % 9 + 1) limit 1",
    "clip_duplicates over and over": COUNT_UP
    + "select count(*) from n, clip_duplicates(0.7 + i % 30 / 100.0) d",
    "clip_search of nothing, in aggregates": "select count(distinct clip_search_json(null, a.id)), "
    "group_concat(clip_search_json('', 0)) from images a, images b, images c",
}


class Seen(NamedTuple):
    """What became of a statement and of those who looked on; seconds, and MB of the server."""

    characters: int
    own: list[float]
    codes: Counter[str]
    select_1: list[float]
    page: list[float]
    peak: float


class Server:
    """Datasette as a process of its own, with its own limits."""

    def __init__(self, database: Path, port: int):
        self.base = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "datasette", "-i", str(database), "--port", str(port)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=database.parent
        )
        version = ""
        for _ in range(600):
            try:
                found = httpx.get(f"{self.base}/-/versions.json").json()
                version = found["datasette"]["version"]
                break
            except httpx.TransportError:
                time.sleep(0.1)
        self.version = version
        path = f"/{database.stem}" + (".json" if version.startswith("0.") else "/-/query.json")
        self.sql = f"{self.base}{path}"

    def ask(self, sql: str) -> tuple[object, float, str]:
        begun = time.monotonic()
        try:
            answer = httpx.get(self.sql, params={"sql": sql, "_shape": "array"}, timeout=SECONDS)
        except httpx.HTTPError as error:
            return type(error).__name__, time.monotonic() - begun, ""
        return answer.status_code, time.monotonic() - begun, answer.text

    def page(self) -> float:
        begun = time.monotonic()
        httpx.get(f"{self.base}/-/versions.json", timeout=SECONDS)
        return time.monotonic() - begun

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def peak(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024


@contextmanager
def served(database: Path, port: int):
    server = Server(database, port)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait()


def measure(server: Server, sql: str, rounds: int) -> Seen:
    """Send a statement from three visitors at once while two others use the site."""
    server.forget_peak()
    done = threading.Event()
    select_1: list[float] = []
    page: list[float] = []
    own: list[float] = []
    codes: Counter[str] = Counter()

    def look(seconds: list[float], ask) -> None:
        while not done.is_set():
            seconds.append(ask())
            time.sleep(0.03)

    def send(visitor: int) -> None:
        for turn in range(rounds):
            salted = sql.replace("{salt}", f"{time.time_ns() % 10**9}{visitor}{turn}")
            assert len(salted) <= MOST_CHARACTERS, len(salted)
            code, seconds, text = server.ask(salted)
            told = re.search(r"took too long|interrupted", text)
            codes["200" if code == 200 else told.group() if told else f"refused ({code})"] += 1
            own.append(seconds)

    with ThreadPoolExecutor(VISITORS + 2) as threads:
        looking = [
            threads.submit(look, select_1, lambda: server.ask("select 1")[1]),
            threads.submit(look, page, server.page),
        ]
        for sending in [threads.submit(send, visitor) for visitor in range(VISITORS)]:
            sending.result()
        done.set()
        for each in looking:
            each.result()
    return Seen(len(sql), own, codes, select_1, page, server.peak())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--port", type=int, default=8497)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = arguments.database or made_database(Path(folder))
        with served(database.absolute(), arguments.port) as server:
            show(server, arguments.only, arguments.rounds)


def show(server: Server, only: str, rounds: int) -> None:
    # Both towers, the index, and the first picture's decoder.
    for _ in range(20):
        code, _, text = server.ask("select clip_vector('dog')")
        if code == 200:
            break
        time.sleep(0.5)
    assert code == 200, text
    begun = time.monotonic()
    yardstick = 0.0
    print(f"Datasette {server.version}, {VISITORS} visitors at once, {rounds} rounds\n")
    print(
        "| statement | characters | its own s, longest | select 1, ms, p50 | longest | "
        "page without SQL, ms, longest | peak RSS, MB | to the yardstick | answers |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    for name, sql in {**PLAIN, **UNENDED, **OURS}.items():
        if name not in PLAIN and only not in name:
            continue
        if time.monotonic() - begun > SECONDS_IN_ALL:
            print("Out of time")
            break
        seen = measure(server, sql, rounds)
        longest = max(seen.select_1)
        if name in PLAIN:
            yardstick = max(yardstick, longest)
        ratio = "" if name in PLAIN else f"{longest / yardstick:.2f}"
        answers = ", ".join(f"{count} x {code}" for code, count in seen.codes.items())
        print(
            f"| {name} | {seen.characters} | {max(seen.own):.1f} | "
            f"{statistics.median(seen.select_1) * 1000:.0f} | {longest * 1000:.0f} | "
            f"{max(seen.page) * 1000:.0f} | {seen.peak:.0f} | {ratio} | {answers} |",
            flush=True,
        )
    print(f"\nThe yardstick: {yardstick * 1000:.0f} ms. {time.monotonic() - begun:.0f} s in all.")


if __name__ == "__main__":
    main()
