"""The calibration plot of cutoff.py."""

from pathlib import Path
from typing import Any

import numpy as np

# What lies under another line is broader than it.
LINES: list[tuple[str, float, Any]] = [
    ("#c8553d", 2.4, "-"),
    ("#1f6f8b", 4.5, "-"),
    ("#e0a34a", 2, (0, (4, 2))),
]
INK, QUIET, RULE = "#16212e", "#5b6875", "#e6e9ec"


def plot(panels: list[tuple[str, str, tuple[float, float], Any]], file: Path) -> str:
    """Draw the curves, if matplotlib is there; return a sentence that says so.

    A panel is a title, the cut-off's name, its limits, and the Result to draw.
    """
    try:
        import matplotlib
    except ImportError:
        return "No plot was drawn: matplotlib is not installed. Run: pip install matplotlib"
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        2, 2, figsize=(11, 6.6), sharex="col", sharey="row", height_ratios=(2.1, 1)
    )
    for (title, label, limits, result), (upper, lower) in zip(panels, axes.T, strict=True):
        cut = result.cuts[result.shared]
        labelled = []
        for (name, judged), (colour, width, dash) in zip(result.cases.items(), LINES, strict=False):
            line = {"color": colour, "linewidth": width, "linestyle": dash}
            for f1 in judged.groups.values():
                upper.plot(result.cuts, f1.mean(1), color=colour, alpha=0.18, linewidth=0.9)
            upper.plot(result.cuts, judged.f1, label=name, **line)
            lower.plot(result.cuts, judged.let_through, **line)
            best = judged.f1.argmax()
            peak = result.cuts[best], judged.f1[best]
            upper.plot(*peak, "o", color=colour, markersize=2 * width + 4)
            upper.vlines(peak[0], 0, peak[1], color=colour, linestyle=":")
            if peak not in labelled:
                side = -1 if peak[0] <= cut else 1
                upper.annotate(
                    f"{peak[0]:.2f}", peak, (9 * side, 7), textcoords="offset points",
                    ha="right" if side < 0 else "left", color=colour, fontweight="bold",
                )  # fmt: skip
            labelled.append(peak)
        for axis in (upper, lower):
            axis.axvline(cut, color=INK, linewidth=1)
            axis.set_xlim(limits)
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(axis="y", color=RULE, linewidth=0.8)
            axis.set_axisbelow(True)
        mean = np.mean([judged.f1[result.shared] for judged in result.cases.values()])
        text = f"{title}: F1 {mean:.2f} at the best one for all, {cut:.2f}"
        upper.set_title(text, fontsize=11, loc="left", color=INK)
        upper.set_ylim(0, 1.05)
        lower.set_yscale("symlog", linthresh=1)
        lower.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
        lower.set_ylim(0, 200)
        lower.set_xlabel(label, family="monospace")
    axes[0, 0].set_ylabel("F1 of queries that match something")
    axes[1, 0].set_ylabel("pictures let through by\nqueries that match nothing")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False)
    figure.text(0.99, 0.012, "thin: one kind of query each", fontsize=8, color=QUIET, ha="right")
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(file, dpi=150)
    plt.close(figure)
    return f"The plot is {file}"
