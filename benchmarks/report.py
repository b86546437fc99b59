"""What the race came to: the table, the chart, and the conditions."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

NAMESAKE = "1.3.1"
OURS = {"anew": "torchfits, anew", "kept": "torchfits, kept"}
PEERS = {"astropy": "astropy", "fitsio": "fitsio", "rustfits": "rustfits"}
PEERS |= {"namesake anew": f"PyPI torchfits {NAMESAKE}, anew"}
KEEPING_PEERS = PEERS | {"namesake kept": f"PyPI torchfits {NAMESAKE}, kept"}
FLOORS = {
    "fresh 1": "fresh, 1 thread",
    "fresh 2": "fresh, 2 threads",
    "reused 1": "reused, 1 thread",
    "reused 2": "reused, 2 threads",
}
NAMES = OURS | KEEPING_PEERS | FLOORS


@dataclass
class Outcome:
    """What one case came to."""

    title: str
    kind: str
    times: dict[str, float] = field(default_factory=dict)  # medians, ms
    marks: dict[str, str] = field(default_factory=dict)  # of those without a time: error, wrong
    notes: list[str] = field(default_factory=list)
    ways: dict[str, str] = field(default_factory=dict)
    rounds: int = 0
    others: float = 0.0  # how many cores others kept busy meanwhile

    def best(self, names: Sequence[str]) -> float | None:
        return min((self.times[name] for name in names if name in self.times), default=None)

    @property
    def floor(self) -> float | None:
        wanted = "reused" if self.kind == "out" else "fresh"
        return self.best([name for name in FLOORS if name.startswith(wanted)])


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 3}f}"


def quotient(value: float | None, by: float | None) -> str:
    return number(value / by) if value and by else ""


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def heads(*titles: str) -> str:
    return f"{line(*titles)}\n|---{'|---:' * (len(titles) - 1)}|"


RATIOS = "best peer / anew", "best peer / kept", "anew / floor", "kept / floor"
HEADS = heads("ms", "floor", *OURS.values(), *KEEPING_PEERS.values(), *RATIOS, "load of others")


def row(outcome: Outcome) -> str:
    times = (number(outcome.times.get(name)) or outcome.marks.get(name, "-") for name in OURS | KEEPING_PEERS)
    anew, kept = (outcome.times.get(name) for name in OURS)
    ratios = [quotient(outcome.best(list(PEERS)), anew), quotient(outcome.best(list(KEEPING_PEERS)), kept)]
    ratios += [quotient(anew, outcome.floor), quotient(kept, outcome.floor)]
    return line(outcome.title, number(outcome.floor), *times, *ratios, f"{outcome.others:.2f}")


def remarks(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What is behind 'error' and 'wrong', and the floors one by one."""
    yield from ["", *(f"- {note}" for outcome in outcomes for note in outcome.notes)]
    measured = [outcome for outcome in outcomes if outcome.floor is not None]
    if measured:
        yield f"\n{heads('the floor, ms', *FLOORS.values())}"
    for outcome in measured:
        yield line(outcome.title, *(number(outcome.times.get(name)) for name in FLOORS))


def conditions(versions: Sequence[dict[str, str]], outcomes: Sequence[Outcome]) -> str:
    try:
        names = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(each.partition(":")[2].strip() for each in names if each.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    used = {f"{each['library']} with torch {each['torch']}": 0 for each in versions if "torch" in each}
    rounds = [outcome.rounds for outcome in outcomes]
    return (
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}; "
        f"Python {platform.python_version()}; {'; '.join(used)}. "
        f"Medians of {' to '.join(map(str, sorted({min(rounds), max(rounds)})))} rounds."
    )


def chart(outcomes: Sequence[Outcome], path: Path) -> None:
    """Bars of how many times as long as torchfits, with the file opened anew, each peer takes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    shown = [outcome for outcome in outcomes if "anew" in outcome.times and outcome.best(list(PEERS))]
    height = 0.8 / len(PEERS)
    figure, axes = pyplot.subplots(figsize=(9, 1.5 + 0.6 * len(shown)), layout="constrained")
    for i, (name, title) in enumerate(PEERS.items()):
        at = [k + (i + 0.5) * height - 0.4 for k in range(len(shown))]
        ratios = [outcome.times.get(name, 0) / outcome.times["anew"] for outcome in shown]
        widths = [(ratio or 1) - 1 for ratio in ratios]
        axes.barh(at, widths, height, left=1, label=title.removesuffix(", anew"))
        for y, ratio, outcome in zip(at, ratios, shown, strict=True):
            what = number(ratio) if ratio else outcome.marks.get(name, "")
            axes.text(max(ratio, 1) * 1.02, y, what, fontsize=6, va="center")
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(shown)), [outcome.title for outcome in shown])
    axes.invert_yaxis()
    axes.margins(x=0.1, y=0.01)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(
        "time of the peer / time of torchfits, files opened anew; right of 1, torchfits is faster"
    )
    figure.legend(loc="outside upper center", ncols=len(PEERS), frameon=False)
    axes.grid(axis="x", which="both", alpha=0.2)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
