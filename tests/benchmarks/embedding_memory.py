"""Whether memory grows with the number of pictures, and what a second run costs.

    python tests/benchmarks/embedding_memory.py [--counts 1000 20000] [--output FOLDER]

Embeds so many small distinct pictures with the demo's model, each count in a process of its own,
then runs the same command again. Prints the peak memory of the process and its decoders, and the
seconds of both runs.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent.parent


def make(count: int, folder: Path) -> None:
    """Write distinct JPEGs of 320x240, in folders of a thousand."""
    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"{number // 1000:03}"
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
        coarse.resize((320, 240), Image.Resampling.BICUBIC).save(place / f"{number:06}.jpg")


def resident(pid: int) -> float:
    """Megabytes of a process and its children that are not shared among them."""
    total = 0.0
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for one in (str(pid), *children):
        for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) / 1024
    return total


def run(database: Path, folder: Path) -> tuple[float, float, float, str]:
    """Run the command; return its seconds, peaks of the whole and of the main process."""
    command = [sys.executable, "-m", "sqlite_utils", "embed-images", str(database), str(folder)]
    command += ["--model", "demo", "--pretrained", str(ROOT / "demo" / "model")]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    peak = 0.0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            # It may end while it is looked at.
            with contextlib.suppress(OSError):
                peak = max(peak, resident(process.pid))
            time.sleep(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert process.stdout is not None
    output = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    seconds = time.perf_counter() - started
    watcher.join()
    return seconds, peak, usage.ru_maxrss / 1024, output


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 20000])
    arguments = parser.parse_args()
    print(
        f"{'pictures':>9}{'seconds':>9}{'peak of all, MB':>17}{'peak of the process, MB':>25}"
        f"{'second run, s':>15}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        for count in arguments.counts:
            folder, database = Path(scratch, f"{count}"), Path(scratch, f"{count}.db")
            make(count, folder)
            seconds, peak, own, output = run(database, folder)
            again, _, _, second = run(database, folder)
            if f"Embedded:     {count}" not in output or f"Unchanged:    {count}" not in second:
                sys.exit(output + second)
            print(f"{count:>9}{seconds:>9.1f}{peak:>17.0f}{own:>25.0f}{again:>15.2f}", flush=True)


if __name__ == "__main__":
    main()
