"""The charts of the report as PNG files, for papers and READMEs: `make report FORMAT=png`.

    python -m rlaif.report --config configs/demo.yaml --run runs/demo --format png

Each chart is drawn with its title and legend as a standalone SVG, on white, and rasterized by resvg, which reads the
fonts of the system.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rlaif.config import Config
from rlaif.errors import InputError
from rlaif.report.charts import FONTS, HEIGHT, LIGHT, WIDTH, svg_document
from rlaif.report.picture import text_width
from rlaif.storage.files import atomic_write
from rlaif.storage.run import Run

Chart = dict[str, Any]  # title, svg, and lines or groups, which the legend names
FOLDER = "figures"
SCALE = 3  # pixels of a unit: 1,800 wide, 300 dpi at a width of 15 cm
MARGIN, TOP = 20, 62
FEW_POINTS = 20  # up to so many on a line are marked
STYLE = f"""
.title {{ font-size: 17px; font-weight: 600; }} .name {{ font-size: 13px; }} .key {{ fill: currentColor; }}
.paper {{ stroke: none; }} .bar {{ fill: currentColor; fill-opacity: .55; }}
.mean {{ stroke: currentColor; stroke-width: 2; stroke-dasharray: 2 3; }}
.tone-before {{ color: {LIGHT["faint"]}; }} .tone-after {{ color: {LIGHT["chosen"]}; }}
"""


def write_charts(run: Run[Config], charts: Sequence[Chart]) -> Path:
    """Write charts into RUN/figures; returns the folder.

    Errors: InputError: there is nothing to draw yet, or this machine has no font.
    """
    if not charts:
        raise InputError(f"{run.path} has nothing to draw yet; first run `make feedback RUN={run.path}`")
    folder = run.path / FOLDER
    folder.mkdir(exist_ok=True)
    for chart in charts:
        target = folder / f"{file_name(chart['title'])}.png"
        content = rasterize(standalone(chart))
        with atomic_write(target) as temporary:
            temporary.write_bytes(content)
        print(f"  wrote    {target} ({len(content) / 2**10:.0f} KiB)")
    return folder


def standalone(chart: Chart) -> str:
    """A chart with its title and legend as an SVG file."""
    lines = chart.get("lines", ())
    body = [Markup('<text class="title" x="{}" y="30">{}</text>').format(MARGIN, chart["title"])]
    body += legend(lines or chart["groups"])
    inner = 'svg x="{}" y="{}" width="{}" height="{}"'
    body.append(Markup(str(chart["svg"]).replace("svg", inner.format(MARGIN, TOP, WIDTH, HEIGHT), 1)))
    marked = any(len(line.points) <= FEW_POINTS for line in lines)
    style = STYLE if marked else STYLE + ".point { opacity: 0; }"
    return svg_document(WIDTH + 2 * MARGIN, TOP + HEIGHT + MARGIN, chart["title"], body, style)


def legend(items: Sequence[Any]) -> list[Markup]:
    """A key and a name for each line or group, in one row."""
    key = '<g class="tone-{}"><rect class="key" x="{:.0f}" y="42" width="10" height="10" rx="3"/></g>'
    name = '<text class="name soft" x="{:.0f}" y="51.5">{}</text>'
    parts, x = [], float(MARGIN)
    for item in items:
        parts += [Markup(key).format(item.tone, x), Markup(name).format(x + 16, item.name)]
        x += 34 + text_width(item.name, 13)
    return parts


def rasterize(svg: str) -> bytes:
    """An SVG as PNG, by its light colors. Errors: InputError: this machine has no font, so that texts are missing."""
    import resvg_py

    if has_no_font():
        raise InputError("this machine has no font for the texts of a chart; install one, such as fonts-dejavu-core")
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=SCALE, background="#ffffff"))


def has_no_font() -> bool:
    """Whether a text in the fonts of charts leaves no pixel: resvg then leaves texts out without a word."""
    import resvg_py

    blank = '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20">{}</svg>'
    texts = ("", f"<text y='15' font-family='{FONTS}'>M</text>")
    return len({bytes(resvg_py.svg_to_bytes(svg_string=blank.format(text))) for text in texts}) == 1


def file_name(title: str) -> str:
    """Claims by p(yes) -> claims-by-p-yes."""
    return "-".join(re.findall(r"[a-z0-9]+", title.lower()))
