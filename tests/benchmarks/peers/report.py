"""The figures as a Markdown table and as a plot."""

import statistics
from dataclasses import dataclass, field
from pathlib import Path

from contestants import Contestant

NONE = "-"
TITLES = {"ordinary": "JPEGs of 500x375", "large": "JPEGs of 12 MP"}


@dataclass
class Row:
    """One contestant's figures; `rates` are pictures per second, by corpus and round.

    `bounds` are what no pipeline with our row's model and precision can surpass. A corpus that it
    failed on has no rates, and a sentence among the failures.
    """

    contestant: Contestant
    versions: str
    failures: list[str] = field(default_factory=list)
    rates: dict[str, list[float]] = field(default_factory=dict)
    bounds: dict[str, list[float]] = field(default_factory=dict)
    megabytes: float = 0

    def rate(self, kind: str) -> float | None:
        return _median(self.rates, kind)


def table(rows: list[Row], counts: dict[str, int], about: str) -> str:
    """Return the whole report in Markdown."""
    by_key = {row.contestant.key: row for row in rows}
    kinds = list(counts)
    head = ["contestant", "version", "model, input", "precision"]
    head += [f"images/s, {counts[kind]} {TITLES[kind]}" for kind in kinds]
    head += ["its bound", "our default to it", "ours alike to it", "bound alike to it"]
    head += ["peak memory, MB"]
    lines = [head, ["---"] * 4 + ["---:"] * (len(head) - 4)]
    for row in rows:
        contestant = row.contestant
        cells = [contestant.name, row.versions, contestant.model, contestant.precision]
        cells += [_number(row.rate(kind)) for kind in kinds]
        ours, alike = by_key.get("ours"), by_key.get(contestant.like)
        cells += [_bounds(row, kinds) if contestant.is_ours else ""]
        cells += ["" if contestant.key == "ours" else _ratios(ours and ours.rates, row, kinds)]
        cells += [_ratios(alike and alike.rates, row, kinds) if contestant.like else ""]
        cells += [_ratios(alike and alike.bounds, row, kinds) if contestant.like else ""]
        cells += [f"{row.megabytes:.0f}" if row.megabytes else NONE]
        lines.append([cell.replace("|", "\\|") for cell in cells])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    order = " / ".join(TITLES[kind] for kind in kinds)
    notes = [
        f"Whole cold processes, random weights; medians. {about}.",
        f"Ratios are of images/s, in the order {order}. *Ours alike* is our row with the same "
        "model, input size and precision as the peer's.",
        "*Bound*: 1/(1/M + d/cores), of the model's own speed M and the time d to decode a "
        "picture; without start-up, the most that a pipeline of its model and precision can reach.",
        "Memory is the larger of the two corpora: resident of one process, proportional shares "
        "of several.",
    ]
    notes += [f"**{row.contestant.name}**: {reason}" for row in rows for reason in row.failures]
    return "\n\n".join([text, *notes]) + "\n"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"


def _bounds(row: Row, kinds: list[str]) -> str:
    return " / ".join(_number(_median(row.bounds, kind)) for kind in kinds)


def _median(figures: dict[str, list[float]], kind: str) -> float | None:
    found = figures.get(kind)
    return statistics.median(found) if found else None


def _ratios(ours: dict[str, list[float]] | None, peer: Row, kinds: list[str]) -> str:
    """Return the median over the rounds of our rate by the peer's, of every corpus."""
    if ours is None:
        return NONE
    cells = []
    for kind in kinds:
        pairs = zip(ours.get(kind, []), peer.rates.get(kind, []), strict=False)
        ratios = [one / other for one, other in pairs]
        cells.append(f"{statistics.median(ratios):.2f}" if ratios else NONE)
    return " / ".join(cells)


def plot(rows: list[Row], counts: dict[str, int], about: str, file: Path) -> str:
    """Draw the bars, if matplotlib is there; return a sentence that says so."""
    try:
        import matplotlib
    except ImportError:
        return "No plot was drawn: matplotlib is not installed. Run: pip install matplotlib"
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [row for row in reversed(rows) if row.rates]
    counts = {kind: count for kind, count in counts.items() if any(kind in r.rates for r in shown)}
    if not shown:
        return "No plot was drawn: there are no figures."
    figure, panels = plt.subplots(
        1, len(counts), figsize=(5.5 * len(counts) + 2, 0.45 * len(shown) + 1.6), squeeze=False
    )
    for panel, kind in zip(panels[0], counts, strict=True):
        values = [row.rate(kind) or 0 for row in shown]
        # From the slowest round to the fastest.
        spread = [
            [row.rate(kind) - min(row.rates[kind]) if row.rates.get(kind) else 0 for row in shown],
            [max(row.rates[kind]) - row.rate(kind) if row.rates.get(kind) else 0 for row in shown],
        ]
        colours = ["#1f6f8b" if row.contestant.is_ours else "#b9b4a7" for row in shown]
        bars = panel.barh(range(len(shown)), values, xerr=spread, color=colours, ecolor="#555555")
        figures = [f"{value:.1f}" if value else "no figure" for value in values]
        panel.bar_label(bars, figures, padding=4, fontsize=9)
        panel.set_xlim(left=0)
        labels = [
            f"{row.contestant.name}\n{row.contestant.model}, {row.contestant.precision}"
            for row in shown
        ]
        panel.set_yticks(range(len(shown)), labels if panel is panels[0][0] else [], fontsize=8)
        panel.set_title(f"{counts[kind]} {TITLES[kind]}", fontsize=10)
        panel.set_xlabel("images per second, whole cold run")
        panel.margins(x=0.15)
        panel.spines[["top", "right"]].set_visible(False)
    figure.text(0.01, 0.01, about, fontsize=7, color="#666666")
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(file, dpi=150)
    plt.close(figure)
    return f"The plot is {file}"
