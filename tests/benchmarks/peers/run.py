"""Measures this project against its peers: whole cold runs, from a folder to a searchable index.

    python tests/benchmarks/peers/run.py --cache ~/peers --output results

Every contestant embeds the same folders of pictures on this machine, in the environment of its
own that pip makes (a few gigabytes each, kept in --cache), with random weights of its own
architecture. What is timed is the whole process: imports, loading, decoding, embedding, writing.
The contestants take turns, so that a noisy minute hits all; figures are medians over the rounds,
ratios are medians of the ratios within a round. A run that did not make one vector for every
picture is an error, never a figure.

Linux or macOS. Run it with the Python that this project is installed in, with its `embed` extra.
The plot needs matplotlib there.
"""

import argparse
import datetime
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from contestants import CONTESTANTS, Contestant, Job
from environments import HERE, Unusable, set_up, versions
from measure import Measured, measure
from report import TITLES, Row, plot, table

# Processes that want a core, on average over a minute, above which there is other work.
BUSY = 0.5
# What everyone embeds first; ours tries number formats with the pictures where there are 64.
FEW = 70


@dataclass
class Corpus:
    """A folder of pictures, and the runs over it and what failed on it by contestant."""

    kind: str
    folder: Path
    count: int
    runs: dict[str, list[Measured]] = field(default_factory=dict)
    bounds: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def parse() -> argparse.Namespace:
    keys = [contestant.key for contestant in CONTESTANTS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=1000, help="JPEGs of 500x375; 0: none")
    parser.add_argument("--large", type=int, default=100, help="JPEGs of 12 megapixels; 0: none")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contestant")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/clip-search-peers"))
    parser.add_argument("--output", type=Path, default=Path("peers"), help="folder for the results")
    parser.add_argument("--only", nargs="+", metavar="KEY", choices=keys, help=", ".join(keys))
    parser.add_argument("--seconds", type=float, default=1800, help="the longest a run may take")
    return parser.parse_args()


def make_pictures(cache: Path, kind: str, count: int) -> Path:
    """Return a folder of pictures, made in an earlier run or now."""
    testdata = os.environ.get("CLIP_SEARCH_TESTDATA")
    real = testdata and Path(testdata, "corpora", "photos").is_dir()
    folder = cache / "pictures" / f"{kind}-{count}-{'photos' if real else 'shapes'}"
    if not folder.exists():
        print(f"Making {count} {kind} pictures", flush=True)
        part = folder.with_name(f"making-{os.getpid()}")
        # Another process: a child is charged with the peak of the one that it was forked from.
        subprocess.run([sys.executable, HERE / "pictures.py", kind, str(count), part], check=True)
        part.rename(folder)
    return folder


def prepare(chosen: list[Contestant], cache: Path, seconds: float) -> dict[str, str]:
    """Install every peer and embed a few pictures with each; return the reasons of those that fail.

    That finds what fails before hours are spent, and reads everyone's files into the system's
    cache, which would else favour whoever runs later.
    """
    few = make_pictures(cache, "ordinary", FEW)
    query = cache / "query.jpg"
    if not query.exists():
        query.hardlink_to(next(few.iterdir()))
    failures = {}
    for contestant in chosen:
        print(f"Preparing {contestant.name}", flush=True)
        try:
            set_up(cache, contestant.environment, contestant.packages, contestant.weights)
            job = Job(cache, few, cache / "runs" / contestant.key)
            measure(contestant, job, cache / "logs" / f"{contestant.key}-first.log", seconds)
        except Unusable as error:
            failures[contestant.key] = str(error)
            print(f"    can't take part: {error}", flush=True)
    return failures


def run_rounds(
    chosen: list[Contestant], corpora: list[Corpus], options: argparse.Namespace
) -> None:
    """Fill in the runs, round by round, and who failed why."""
    for number in range(options.rounds):
        # Whoever always ran after the same one would always find the machine as that left it.
        turns = chosen[number % len(chosen) :] + chosen[: number % len(chosen)]
        find_bounds(chosen, corpora, options.cache)
        for corpus in corpora:
            for contestant in turns:
                if contestant.key in corpus.failures:
                    continue
                job = Job(options.cache, corpus.folder, options.cache / "runs" / contestant.key)
                log = options.cache / "logs" / f"{contestant.key}-{corpus.kind}-{number}.log"
                print(f"Round {number + 1}, {corpus.kind}: {contestant.name}", end="", flush=True)
                try:
                    measured = measure(contestant, job, log, options.seconds)
                except Unusable as error:
                    corpus.failures[contestant.key] = str(error)
                    print(f": {error}", flush=True)
                    continue
                corpus.runs.setdefault(contestant.key, []).append(measured)
                rate = corpus.count / measured.seconds
                print(f": {rate:.1f} pictures/s, {measured.megabytes:.0f} MB", flush=True)


def find_bounds(chosen: list[Contestant], corpora: list[Corpus], cache: Path) -> None:
    """Fill in what no pipeline with the model and precision of a row of ours can surpass."""
    few = make_pictures(cache, "ordinary", FEW)
    for contestant in chosen:
        if not contestant.is_ours:
            continue
        [weights] = contestant.weights
        arguments = [Path(weights).stem, cache / "weights" / weights, contestant.precision, few]
        folders = [corpus.folder for corpus in corpora]
        command = [sys.executable, HERE / "bound.py", *arguments, *folders]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"The bound of {contestant.name}: {done.stderr.strip()[-300:]}", flush=True)
            continue
        found = json.loads(done.stdout.splitlines()[-1])["bound"]
        for corpus in corpora:
            rate = found[str(corpus.folder)]
            corpus.bounds.setdefault(contestant.key, []).append(rate)
            print(f"The bound of {contestant.name}, {corpus.kind}: {rate:.1f}", flush=True)


def summarise(
    chosen: list[Contestant], corpora: list[Corpus], failures: dict[str, str], cache: Path
) -> list[Row]:
    rows = []
    for contestant in chosen:
        key = contestant.key
        row = Row(contestant, versions(cache, contestant.environment, contestant.versions))
        if key in failures:
            row.failures.append(f"did not take part: {failures[key]}")
        for corpus in corpora:
            runs = corpus.runs.get(key, [])
            if key in corpus.failures:
                row.failures.append(f"failed on {TITLES[corpus.kind]}: {corpus.failures[key]}")
            elif runs:
                row.rates[corpus.kind] = [corpus.count / run.seconds for run in runs]
                row.bounds[corpus.kind] = corpus.bounds.get(key, [])
                typical = statistics.median(run.megabytes for run in runs)
                row.megabytes = max(row.megabytes, typical)
        rows.append(row)
    return rows


def machine() -> str:
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith("model name")
        ]
        processor = names[0] if names else processor
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{processor}, {cores} cores, {platform.system()}, Python {platform.python_version()}"


def main() -> None:
    options = parse()
    # So that `timeout` and the like end what this has started, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    load = os.getloadavg()[0]
    if load > BUSY:
        print(f"This machine is busy (load {load:.1f}): the figures will be of its other work too")
    options.cache = options.cache.expanduser().resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    chosen = [
        contestant
        for contestant in CONTESTANTS
        if (contestant.key in options.only if options.only else contestant.by_default)
    ]
    corpora = [
        Corpus(kind, make_pictures(options.cache, kind, count), count)
        for kind, count in (("ordinary", options.pictures), ("large", options.large))
        if count
    ]
    failures = prepare(chosen, options.cache, options.seconds)
    taking_part = [contestant for contestant in chosen if contestant.key not in failures]
    if taking_part:
        try:
            run_rounds(taking_part, corpora, options)
        except KeyboardInterrupt:
            print("\nInterrupted: these are the figures of the runs that ended", flush=True)
    rows = summarise(chosen, corpora, failures, options.cache)
    rounds = "1 round" if options.rounds == 1 else f"{options.rounds} rounds"
    about = f"{machine()}, {datetime.date.today()}, {rounds}, load before {load:.1f}"
    counts = {corpus.kind: corpus.count for corpus in corpora}
    text = table(rows, counts, about)
    print(f"\n{text}")
    (options.output / "peers.md").write_text(text, "utf-8")
    runs = {
        corpus.kind: {
            key: [[round(run.seconds, 3), round(run.megabytes)] for run in measured]
            for key, measured in corpus.runs.items()
        }
        for corpus in corpora
    }
    bounds = {corpus.kind: corpus.bounds for corpus in corpora}
    raw = {"about": about, "counts": counts, "seconds and megabytes": runs, "bounds": bounds}
    (options.output / "peers.json").write_text(json.dumps(raw, indent=1), "utf-8")
    print(plot(rows, counts, about, options.output / "peers.png"))


if __name__ == "__main__":
    main()
