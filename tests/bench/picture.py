# SPDX-License-Identifier: Apache-2.0
"""A picture of what scripts/bench measured: how far each figure is from its target."""

import math

MET, MISSED = "#2e7d32", "#c62828"


def score(result):
    """1 where the target is just met, more where it is met by more; None without a target."""
    ratio = result["ratio"]
    if not ratio:
        return None
    if result["at_least"]:
        return ratio / result["at_least"]
    return result["at_most"] / ratio if result["at_most"] else None


def names_of(row):
    """What each result is called: with its peer where several are of the same figure."""
    whats = [result["what"] for result in row["results"]]
    return [
        f"{row['row']}  {result['what']}"
        + (f", beside {result['beside'].rsplit(' ', 1)[0]}" if whats.count(result["what"]) > 1 else "")
        for result in row["results"]
    ]


def draw(rows, path):
    """Bars for all results with a target, of `rows` as in build/bench/*.json, to an SVG file."""
    import matplotlib  # pylint: disable=import-outside-toplevel

    matplotlib.use("svg")
    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text: a tenth of the size
    matplotlib.rcParams["svg.hashsalt"] = "pinfs"
    from matplotlib import pyplot  # pylint: disable=import-outside-toplevel

    bars = [
        (name, score(result), f"{result['ratio']:.2f} ({result['target']})")
        for row in rows
        for name, result in zip(names_of(row), row["results"])
        if score(result)
    ]
    figure, axes = pyplot.subplots(figsize=(10, 1 + 0.22 * len(bars)))
    widths = [math.log2(min(16, max(1 / 16, value))) for _, value, _ in bars]
    axes.barh(range(len(bars)), widths, color=[MET if value >= 1 else MISSED for _, value, _ in bars])
    for place, (_, _, text) in enumerate(bars):
        width = widths[place]
        axes.text(width, place, f" {text} ", va="center", ha="left" if width >= 0 else "right", fontsize=7)
    axes.set_yticks(range(len(bars)), [name for name, _, _ in bars], fontsize=7)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.axvline(0, color="black", linewidth=1)
    ticks = range(-4, 5)
    axes.set_xticks(ticks, [f"{2**tick:g}" if tick >= 0 else f"1/{2**-tick}" for tick in ticks])
    axes.set_xlim(-5, 5.5)
    axes.set_xlabel("of the target: right of 1 it is met (ratio, and the target, beside each bar)")
    machine = rows[0]["machine"]
    axes.set_title(f"pinfs beside its peers; Linux {machine['kernel'].split('-')[0]}, {machine['processors']} processors", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
