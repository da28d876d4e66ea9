"""Charts as inline SVG: lines over steps and histograms. Pure functions from numbers to markup.

They are not drawn by a plotting library, because the page colors them: every mark has a CSS class (`tone-<tone>`), so
that the same SVG fits the light and the dark theme and has the font of the page. `svg_document` turns charts into a
standalone file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import Template

import numpy as np
from markupsafe import Markup

WIDTH, HEIGHT = 560, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 18, 40
CAP = 4  # pixels from an interval's line to either end of its caps

LIGHT = {
    "paper": "#ffffff",
    "ink": "#22262c",
    "soft": "#5f656e",
    "faint": "#8b8f96",
    "line": "#e4e1da",
    "chosen": "#2c6fae",
    "rejected": "#c9572b",
    "margin": "#24785a",
}
DARK = {
    "paper": "#16181c",
    "ink": "#e9e6df",
    "soft": "#a9acb2",
    "faint": "#80848c",
    "line": "#2f333a",
    "chosen": "#6fb0ee",
    "rejected": "#f0916a",
    "margin": "#6cc5a0",
}
COLORS = """text { fill: $ink; } .soft, text.label, text.note { fill: $soft; } text.tick { fill: $faint; }
.paper { fill: $paper; stroke: $line; } .grid { stroke: $line; } .level { stroke: $faint; }
.tone-chosen { color: $chosen; } .tone-rejected { color: $rejected; } .tone-margin { color: $margin; }"""
# fonts by name, because resvg takes Arial for any sans-serif font, and no other where that is missing
FONTS = 'system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, "Liberation Sans", "DejaVu Sans", sans-serif'
SHAPES = f"""text {{ font-family: {FONTS}; }}
.tick, .label, .note {{ font-size: 11.5px; font-variant-numeric: tabular-nums; }} .level {{ stroke-dasharray: 3 4; }}
.line {{ fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }}
.interval {{ fill: none; stroke: currentColor; stroke-width: 1.2; opacity: .65; }} .point {{ fill: currentColor; }}"""


@dataclass(frozen=True)
class Line:
    """A named line through (x, y) points. tone: its color in the style sheet; intervals: (x, low, high) of points."""

    name: str
    tone: str
    points: Sequence[tuple[float, float]]
    intervals: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True)
class Group:
    """A named set of values whose distribution is drawn. tone: its color in the style sheet."""

    name: str
    tone: str
    values: Sequence[float] | np.ndarray


def line_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    level: tuple[float, str] | None = None,
    x_names: Mapping[float, str] | None = None,
    radius: float = 6,
) -> Markup:
    """Lines over a shared x axis.

    level: a (y, name) drawn as a dashed line, e.g. the loss before any training. x_names: the ticks, where the x axis
    has names instead of numbers. radius: pixels of the points, which the report shows under the pointer only.
    """
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points] + ([level[0]] if level else [])
    ys += [bound for line in lines for _, *bounds in line.intervals for bound in bounds]
    y_ticks = _ticks(min(ys), max(ys))
    x_ticks = list(x_names or [tick for tick in _ticks(min(xs), max(xs)) if min(xs) <= tick <= max(xs)])
    to_x = _scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    to_y = _scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)

    parts = _axes(y_ticks, to_y, _number, x_ticks, to_x, x_label, x_names or {})
    if level:
        y = to_y(level[0])
        parts.append(_segment("level", LEFT, y, WIDTH - RIGHT, y))
        parts.append(_text("note", WIDTH - RIGHT, y - 6, level[1], anchor="end"))
    for line in lines:
        path = "L".join(f"{to_x(x):.1f} {to_y(y):.1f}" for x, y in line.points)
        parts.append(Markup('<path class="line tone-{}" d="M{}"/>').format(line.tone, path))
        parts += [_interval(line.tone, to_x(x), to_y(low), to_y(high)) for x, low, high in line.intervals]
        for x, y in line.points:
            title = f"{line.name}, {x_label} {(x_names or {}).get(x, _number(x))}: {y:.4g}"
            circle = '<circle class="point tone-{}" cx="{:.1f}" cy="{:.1f}" r="{:g}"><title>{}</title></circle>'
            parts.append(Markup(circle).format(line.tone, to_x(x), to_y(y), radius, title))
    return _svg(parts, ", ".join(line.name for line in lines) + f" by {x_label}")


def histogram(
    groups: Sequence[Group], *, low: float, high: float, bins: int, x_label: str, separate: bool = False
) -> Markup:
    """Shares of values in `bins` equal bins over [low, high].

    By default groups are compared: shares are relative to each group, the first is drawn as bars, the others as
    outlines over it, all with their means. separate=True is for groups that hardly overlap: all bars, shares of all
    values together, on a square-root axis, so that rare bins stay visible beside a full one.
    """
    width = (high - low) / bins
    total = sum(len(group.values) for group in groups)
    heights = []
    for group in groups:
        indices = ((np.asarray(group.values, float) - low) / width).astype(int).clip(0, bins - 1)
        counts = np.bincount(indices, minlength=bins).tolist()
        heights.append([count / (total if separate else len(group.values)) for count in counts])

    top = max(max(shares) for shares in heights)
    y_ticks = [tick for tick in (0.0, 0.01, 0.05, 0.2, 0.5, 1.0) if tick <= top] if separate else _ticks(0.0, top)
    warp: Callable[[float], float] = math.sqrt if separate else float
    to_x = _scale(low, high, LEFT, WIDTH - RIGHT)
    linear = _scale(0.0, warp(max(top, y_ticks[-1])), HEIGHT - BOTTOM, TOP)

    def to_y(share: float) -> float:
        return linear(warp(share))

    x_ticks = [tick for tick in _ticks(low, high) if low <= tick <= high]
    parts = _axes(y_ticks, to_y, lambda share: f"{100 * share:.3g}%", x_ticks, to_x, x_label)
    edges = [low + index * width for index in range(bins + 1)]
    for index, (group, shares) in enumerate(zip(groups, heights, strict=True)):
        if separate or index == 0:
            parts += _bars(group, edges, shares, to_x, to_y)
        else:
            steps = [f"V{to_y(share):.1f}H{to_x(edge):.1f}" for share, edge in zip(shares, edges[1:], strict=True)]
            start = f"M{to_x(low):.1f} {to_y(0.0):.1f}"
            outline = Markup('<path class="line tone-{}" d="{}V{:.1f}"/>')
            parts.append(outline.format(group.tone, start + "".join(steps), to_y(0.0)))
    if not separate:
        parts += [_mean(group, to_x) for group in groups]
    return _svg(parts, f"{x_label}: " + " and ".join(group.name for group in groups))


def svg_document(width: int, height: int, title: str, body: Sequence[Markup], style: str = "") -> str:
    """A standalone SVG file with a background, light or dark as its viewer prefers, without script, link or font.

    Colors are written out, not CSS variables, because converters of SVG do not know these.
    """
    light, dark = (Template(COLORS).substitute(palette) for palette in (LIGHT, DARK))
    document = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img">\n'
        "<title>{}</title>\n<style>\n{}\n</style>\n"
        '<rect class="paper" x="0.5" y="0.5" width="{}" height="{}" rx="12"/>\n{}\n</svg>\n'
    )
    rules = Markup("\n".join([SHAPES, style.strip(), light, f"@media (prefers-color-scheme: dark) {{ {dark} }}"]))
    return str(document.format(title, rules, width - 1, height - 1, Markup("\n").join(body), w=width, h=height))


def _bars(
    group: Group,
    edges: Sequence[float],
    shares: Sequence[float],
    to_x: Callable[[float], float],
    to_y: Callable[[float], float],
) -> list[Markup]:
    bar = Markup(
        '<rect class="bar tone-{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
    )
    parts = []
    for left, right, share in zip(edges, edges[1:], shares, strict=False):
        if share:
            title = f"{group.name}, {_number(left)} to {_number(right)}: {100 * share:.1f}%"
            x, y, width = to_x(left) + 0.75, to_y(share), to_x(right) - to_x(left) - 1.5
            parts.append(bar.format(group.tone, x, y, max(width, 0.5), to_y(0.0) - y, title))
    return parts


def _interval(tone: str, x: float, low: float, high: float) -> Markup:
    path = f"M{x - CAP:.1f} {low:.1f}h{2 * CAP}m-{CAP} 0V{high:.1f}m-{CAP} 0h{2 * CAP}"
    return Markup('<path class="interval tone-{}" d="{}"/>').format(tone, path)


def _mean(group: Group, to_x: Callable[[float], float]) -> Markup:
    mean = float(np.mean(group.values))
    title = f"mean of {group.name}: {mean:.1f}"
    line = Markup('<line class="mean tone-{}" x1="{x:.1f}" y1="{}" x2="{x:.1f}" y2="{}"><title>{}</title></line>')
    return line.format(group.tone, TOP - 8, HEIGHT - BOTTOM, title, x=to_x(mean))


def _axes(
    y_ticks: Sequence[float],
    to_y: Callable[[float], float],
    y_format: Callable[[float], str],
    x_ticks: Sequence[float],
    to_x: Callable[[float], float],
    x_label: str,
    x_names: Mapping[float, str] | None = None,
) -> list[Markup]:
    parts = []
    for tick in y_ticks:
        parts.append(_segment("grid", LEFT, to_y(tick), WIDTH - RIGHT, to_y(tick)))
        parts.append(_text("tick", LEFT - 8, to_y(tick) + 4, y_format(tick), anchor="end"))
    for index, tick in enumerate(x_ticks):
        anchor = "end" if x_names and index == len(x_ticks) - 1 else "middle"  # a long name stays inside
        parts.append(_text("tick", to_x(tick), HEIGHT - BOTTOM + 18, (x_names or {}).get(tick, _number(tick)), anchor))
    parts.append(_text("label", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, x_label))
    return parts


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values, about `count` of them, from at or below `low` to at or above `high`."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if span / (power * factor) <= count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _number(value: float) -> str:
    text = f"{value:,.0f}" if value == round(value) else f"{value:.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


def _segment(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(kind, x1, y1, x2, y2)


def _text(kind: str, x: float, y: float, text: str, anchor: str = "middle") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, text)


def _svg(parts: Sequence[Markup], title: str) -> Markup:
    svg = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
    return svg.format(WIDTH, HEIGHT, title, Markup("").join(parts))
