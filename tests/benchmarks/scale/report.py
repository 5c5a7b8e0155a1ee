"""The figures of run.py as Markdown tables and a plot.

python tests/benchmarks/scale/report.py FOLDER/figures-*.json [--plot FILE.png]
"""

import argparse
import json
from pathlib import Path
from typing import Any

NONE = "-"
INK, QUIET, RULE = "#16212e", "#5b6875", "#e6e9ec"
COLOURS = {
    "ours": "#1f6f8b",
    "sql": "#7fb4c4",
    "faiss": "#16212e",
    "flat": "#8a8f98",
    "usearch": "#c8553d",
    "usearch-98": "#e39a86",
    "vec0": "#e0a34a",
    "datasette-faiss": "#7a5195",
    "rclip": "#6a994e",
    "rclip-command": "#b9b4a7",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", type=Path, nargs="+")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    runs = [json.loads(file.read_text()) for file in arguments.figures]
    runs.sort(key=lambda run: (run["size"], run["built"]["kind"]))
    print(f"{ours(runs)}\n\n{beside(runs)}")
    if arguments.plot:
        print(plot(runs, arguments.plot))


def ours(runs: list[dict[str, Any]]) -> str:
    """Return a table of what our index takes and find, a line for every run."""
    lines = [
        "| vectors | index | lists of, candidates | build s (CPU s) | build peak MB | index MB "
        "| of raw vectors in SQLite | first search s | private MB | recall@10, pictures / texts "
        "| p50 / p95 ms | p50 / p95 ms, 8 threads | searches/s, 8 threads |",
        "| ---: | --- | ---: " + "| ---: " * 10 + "|",
    ]
    for run in runs:
        built, memory, figures = run["built"], run["memory"], run["contestants"]["ours"]
        searches = f"{built['lists']}, {built['candidates']}" if built["lists"] else NONE
        cells = [
            f"{run['size']:,}",
            built["kind"],
            searches,
            f"{built['seconds']:.0f} ({built['cpu_seconds']:.0f})",
            f"{built['peak_bytes'] / 1e6:.0f}",
            f"{built['disk_bytes'] / 1e6:.0f}",
            f"{built['vectors_to_raw']:.3f}",
            f"{memory['first_seconds']:.2f}",
            f"{memory['private_bytes'] / 1e6:.0f}",
            recall(figures),
            f"{figures['p50']:.2f} / {figures['p95']:.2f}",
            f"{figures['p50_8']:.1f} / {figures['p95_8']:.1f}",
            f"{figures['each_second_8']:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def recall(figures: dict[str, Any]) -> str:
    return f"{figures['recall_pictures']:.3f} / {figures['recall_texts']:.3f}"


def beside(runs: list[dict[str, Any]]) -> str:
    """Return a table of all contestants at every size, and what kept some of them away."""
    lines = [
        "| vectors | contestant | version | p50 ms | p95 ms | CPU ms | recall@10, pictures / texts "
        "| ours to it | searches/s, 8 threads |",
        "| ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    notes = []
    for run in runs:
        size = f"{run['size']:,} {run['built']['kind']}"
        for key, figures in run["contestants"].items():
            if "problem" in figures:
                notes.append(f"- **{figures['name']}** at {size}: {figures['problem']}")
                continue
            together = figures.get("each_second_8")
            cells = [
                size,
                figures["name"],
                figures["versions"] or NONE,
                f"{figures['p50']:.2f}",
                f"{figures['p95']:.2f}",
                f"{figures['cpu']:.2f}",
                recall(figures),
                "" if key == "ours" else f"{figures['ours_to_it']:.3f}",
                f"{together:.0f}" if together else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        notes.append(f"- {size}: {run['about']}")
    return "\n".join(lines) + "\n\n" + "\n".join(notes) + "\n"


def plot(runs: list[dict[str, Any]], file: Path) -> str:
    """Draw latency against size, if matplotlib is there; return a sentence that says so."""
    try:
        import matplotlib
    except ImportError:
        return "No plot was drawn: matplotlib is not installed. Run: pip install matplotlib"
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(9.5, 5.6))
    ends: list[tuple[float, float, str, str]] = []
    for key, colour in COLOURS.items():
        points = {
            run["size"]: run["contestants"][key]
            for run in runs
            if "p50" in run["contestants"].get(key, {})
        }
        if not points:
            continue
        sizes = list(points)
        middle = [figures["p50"] for figures in points.values()]
        last = points[max(points)]
        name = last["name"].replace("`", "")
        least = min(last["recall_pictures"], last["recall_texts"])
        if least < 0.999:
            name += f" (recall {least:.2f})"
        width = 3 if key == "ours" else 1.6
        axis.plot(sizes, middle, "o-", color=colour, linewidth=width, markersize=2 * width + 1)
        if key == "ours":
            upper = [figures["p95"] for figures in points.values()]
            axis.fill_between(sizes, middle, upper, color=colour, alpha=0.12, linewidth=0)
        ends.append((middle[-1], sizes[-1], name, colour))
    axis.set_xscale("log")
    axis.set_yscale("log")
    # Names stand at the lines' ends, as far apart as they are high.
    below = 0.0
    for value, size, name, colour in sorted(ends):
        below = max(value, below * 1.45)
        axis.annotate(
            name, (size, value), (size * 1.25, below), color=colour, fontsize=9, va="center",
            fontweight="bold" if name.startswith("ours") else "normal",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5},
        )  # fmt: skip
    sizes = sorted({run["size"] for run in runs})
    axis.set_xlim(sizes[0] * 0.8, sizes[-1] * 200)
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axis.set_xticks([], minor=True)
    axis.set_xlabel("vectors of 512", color=INK)
    axis.set_ylabel("milliseconds for the ten nearest (median; ours shaded to p95)", color=INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color=RULE, linewidth=0.8)
    axis.set_axisbelow(True)
    figure.text(0.01, 0.01, runs[-1]["about"], fontsize=7, color=QUIET)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(file, dpi=150)
    plt.close(figure)
    return f"The plot is {file}"


if __name__ == "__main__":
    main()
