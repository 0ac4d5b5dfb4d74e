"""Pictures of results, as SVG. matplotlib is needed only when one is drawn."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.histogram import Histogram

Found = Mapping[str, Any]
Plot = Callable[[Found, Any], None]
"""Draws what was found into a matplotlib Figure."""
OURS, OTHERS = "#c2410c", "#64748b"
TICKS = {1: "0 %", 2: "50 %", 10: "90 %", 100: "99 %", 1_000: "99.9 %", 10_000: "99.99 %", 100_000: "99.999 %"}


def save(plot: Plot, found: Found, file: Path) -> bool:
    """Draws into a file; False where matplotlib is not installed."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        return False
    matplotlib.rcParams["svg.hashsalt"] = file.stem  # the same results make the same file
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    plot(found, figure)
    figure.savefig(file, metadata={"Date": None})
    return True


def bars(name: str, label: str) -> Plot:
    """A bar for the median of each contender's figure, the least above, with a line from its least to its most."""

    def plot(found: Found, figure: Any) -> None:
        ones = {key: one for key, one in found["contenders"].items() if name in one["median"]}
        ordered = sorted(ones.items(), key=lambda item: float(item[1]["median"][name]), reverse=True)
        rounds = [[float(each[name]) for each in one["rounds"] if name in each] for _, one in ordered]
        medians = [float(one["median"][name]) for _, one in ordered]
        around = [
            [value - min(each) for value, each in zip(medians, rounds, strict=True)],
            [max(each) - value for value, each in zip(medians, rounds, strict=True)],
        ]
        figure.set_size_inches(8, 1.2 + 0.3 * len(ordered))
        axes = figure.add_subplot()
        titles = [one["title"] for _, one in ordered]
        colors = [OURS if "streamproc" in f"{key} {one['title']}" else OTHERS for key, one in ordered]
        axes.barh(titles, medians, xerr=around, color=colors, ecolor="#111827", capsize=2)
        if medians and max(medians) > 20 * min(medians):
            axes.set_xscale("log")
        axes.set_xlabel(label)

    return plot


def percentiles(found: Found, figure: Any) -> None:
    """Latency by share of the records, of each contender."""
    histograms: dict[str, Histogram] = {}
    for one in found["contenders"].values():
        histogram = histograms[one["title"]] = Histogram()
        for each in one["rounds"]:
            histogram.merge(histogram_of(each["latency_ms"]))
    axes = figure.add_subplot()
    draw_percentiles(axes, histograms)
    axes.set_yscale("log")
    axes.set_ylabel("at most, ms")


def histogram_of(counts: Mapping[str, int]) -> Histogram:
    """The latencies that a contender reported, as counts by milliseconds. One below 0, of another clock, is 0."""
    histogram = Histogram()
    for milliseconds, count in counts.items():
        histogram.add(max(0.0, float(milliseconds)), count)
    return histogram


def draw_percentiles(axes: Any, histograms: Mapping[str, Histogram]) -> None:
    """A line for each histogram that holds something; the x axis is logarithmic in 1 / (1 - percentile)."""
    total = 1
    for name, one in histograms.items():
        if not one.total:
            continue
        points = [(1 / max(1 - share, 1 / one.total), value) for share, value in one.shares()]
        axes.step([1.0, *(x for x, _ in points)], [value for _, value in points[:1] + points], where="pre", label=name)
        total = max(total, one.total)
    axes.set_xscale("log")
    axes.set_xticks([x for x in TICKS if x <= 10 * total], [name for x, name in TICKS.items() if x <= 10 * total])
    axes.minorticks_off()
    axes.set_xlabel("percentile")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()


def memory(found: Found, figure: Any) -> None:
    """Resident memory over the run."""
    axes = figure.add_subplot()
    for one in found["contenders"].values():
        series = one["rounds"][0]["rss_series_mb"]
        axes.plot([number / len(series) * one["median"]["records"] / 1e6 for number in range(len(series))], series)
        axes.lines[-1].set_label(one["title"])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("million records")
    axes.set_ylabel("MiB")
    axes.legend()


def curves(found: Found, figure: Any) -> None:
    """Cost by size, a panel for each curve."""
    panels: dict[str, dict[str, list[tuple[Any, float]]]] = {}
    for key, one in found["contenders"].items():
        lines = panels.setdefault(one["labels"]["curve"], {})
        lines.setdefault(key.partition("@")[0], []).append((one["labels"]["x"], one["median"]["cpu_us"]))
    figure.set_size_inches(10, 2.6 * -(-len(panels) // 2))
    for number, (curve, lines) in enumerate(panels.items()):
        axes = figure.add_subplot(-(-len(panels) // 2), 2, number + 1)
        for who, points in lines.items():
            is_text = any(isinstance(x, str) for x, _ in points)
            ordered = points if is_text else sorted(points)
            axes.plot([x for x, _ in ordered], [y for _, y in ordered], marker="o", label=who)
            if not is_text and min(x for x, _ in points) > 0:
                axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(curve)
        axes.set_ylabel("us CPU/record")
        axes.legend(fontsize="x-small")
