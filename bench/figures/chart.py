"""The chart of the README: false mentions by round of alignment, as an SVG file."""

from typing import Any

from markupsafe import Markup

from bench.figures.results import Figures
from rlaif.report.charts import HEIGHT, WIDTH, Line, line_chart, svg_document

TONES = ("chosen", "rejected", "margin")  # of the seeds, in order
SCALE = 1.35  # of the chart, which is drawn for half of a page
LEFT, HEAD, LEGEND_LINE = 28, 74, 22

STYLE = """
.title { font-size: 19px; font-weight: 600; } .subtitle, .legend { font-size: 14px; }
.legend { font-variant-numeric: tabular-nums; } .key { fill: currentColor; }
"""


def rounds_chart(figures: Figures) -> str:
    """False mentions of the validation split by round, one line per seed, with 95% intervals where known."""
    names = {float(index): short(one["name"]) for index, one in enumerate(next(iter(figures.values()))["candidates"])}
    seeds = dict(zip(figures, TONES, strict=False))
    lines = [line for seed, tone in seeds.items() for line in seed_lines(seed, figures[seed], tone)]
    chart = line_chart(lines, x_label="", x_names=names, radius=3.5)
    width, below = WIDTH * SCALE + 2 * LEFT, HEAD + (HEIGHT - 14) * SCALE
    nested = f'<svg x="{LEFT - 8}" y="{HEAD}" width="{WIDTH * SCALE:g}" height="{HEIGHT * SCALE:g}" '
    body = [
        text("title", LEFT, 36, "False mentions by round of alignment, in percent"),
        text("subtitle soft", LEFT, 60, subtitle(figures)),
        Markup(str(chart).replace("<svg ", nested, 1)),
    ]
    for index, (seed, tone) in enumerate(seeds.items()):
        y = below + 20 + LEGEND_LINE * index
        key = Markup('<circle class="key tone-{}" cx="{}" cy="{:g}" r="5"/>')
        body.append(key.format(tone, LEFT + 6, y - 5))
        body.append(text("legend", LEFT + 20, y, test_figures(seed, figures[seed])))
    height = below + LEGEND_LINE * len(seeds) + 18
    return svg_document(round(width), round(height), "False mentions by round of alignment", body, STYLE)


def seed_lines(seed: str, run: Figures, tone: str) -> list[Line]:
    """The rounds as a line, and the average of several rounds as a separate point."""
    lines = []
    for name, averages in ((f"seed {seed}", False), (f"seed {seed}, average", True)):
        points, intervals = [], []
        for index, candidate in enumerate(run["candidates"]):
            rate = candidate["figures"]["mention_rate"]
            if rate is None or (candidate["round"] is None) != averages:
                continue
            points.append((index, 100 * rate))
            if interval := candidate["intervals"].get("mention_rate"):
                offset = 0.04 * (int(seed) - 1)  # so that the intervals of seeds do not hide each other
                intervals.append((index + offset, 100 * interval[0], 100 * interval[1]))
        lines.append(Line(name, tone, points, intervals))
    return [line for line in lines if line.points]


def short(name: str) -> str:
    """`average of 2 to 4` -> `average 2-4`, with an en dash."""
    return name.replace(" of ", " ").replace(" to ", "\N{EN DASH}")


def subtitle(figures: Figures) -> str:
    """What the lines show, with the width of intervals that are known as a range only."""
    ranges = [run["validation_interval_points"] for run in figures.values() if "validation_interval_points" in run]
    sure = "with 95% intervals"
    if ranges:
        low, high = min(bounds[0] for bounds in ranges), max(bounds[1] for bounds in ranges)
        sure = f"95% within ±{low:g} to ±{high:g} points"
    return f"Validation scenes, greedy answers, {len(figures)} seeds; {sure}"


def test_figures(seed: str, run: Figures) -> str:
    """A seed's legend: the chosen policy on the test split, with the interval of its change."""
    before, after = (100 * run[which]["mention_rate"] for which in ("before", "after"))
    change = 100 * run["change"]["mention_rate"]
    low, high = (100 * bound for bound in run["intervals"]["change"]["mention_rate"])
    sentence = f"seed {seed}, test scenes: {before:.1f} → {after:.1f}, {change:+.1f}% [{low:.1f}, {high:.1f}]"
    return sentence.replace("-", "\N{MINUS SIGN}")


def text(kind: str, x: float, y: float, content: Any) -> Markup:
    return Markup('<text class="{}" x="{:g}" y="{:g}">{}</text>').format(kind, x, y, content)
