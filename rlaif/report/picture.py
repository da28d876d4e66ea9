"""One preference pair as an SVG file: its image, both answers, and every claim with its verdict and p(yes).

    python -m rlaif.report.picture --run runs/demo --out docs/assets/pair.svg

Without `--pair ID` it shows the most instructive pair: a chosen answer without a rejected claim beside an answer with
accepted and rejected ones. The file embeds its image and has no script, link or font, so any SVG viewer can show it.
"""

import argparse
import base64
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlaif.command import exit_status
from rlaif.errors import InputError

WIDTH, MARGIN, GAP = 980, 28, 22
IMAGE, IMAGE_SIDE = 176, 480  # drawn width; pixels of the longer side of the embedded image
COLUMN = (WIDTH - 2 * MARGIN - IMAGE - 2 * GAP) // 2
TEXT, CLAIM = 15, 13  # font sizes
MOST_CLAIMS = 4  # of a side, in the default pair: more would not fit the first screen

STYLE = """
.instruction { font: 21px "Iowan Old Style", "Palatino Linotype", Palatino, Georgia, serif; }
.heading { font-size: 14px; font-weight: 600; fill: currentColor; } .score, .p { font-size: 13px; }
.answer { font-size: 15px; } .claim { font-size: 13px; } .foot { font-size: 13px; }
.rule, .mark { stroke: currentColor; fill: none; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
.chip { fill: currentColor; } .p { font-variant-numeric: tabular-nums; } .struck { text-decoration: line-through; }
"""


def picture(run: Any, pair_id: str | None) -> str:
    """The SVG of a pair of a run. Errors: InputError: the run has no pairs, or none with that id."""
    from rlaif.storage.rows import read_located_parts, read_rows_at, row_locations

    columns = ["pair_id", "chosen_claims", "rejected_claims"]
    pairs = (row for part in read_located_parts(run, "pairs", columns) for row in part.to_pylist())
    if pair_id is None:
        chosen = min(pairs, key=preference, default=None)
        if chosen is None:
            raise InputError(f"{run.path}/pairs.parquet has no pairs; run `make feedback` on more prompts")
    else:
        chosen = next((row for row in pairs if row["pair_id"] == pair_id), None)
        if chosen is None:
            raise InputError(f"{run.path}/pairs.parquet has no pair {pair_id!r}; report.html shows ids as `pair-ID`")
    columns = ["images", "prompt", "chosen", "rejected", *columns[1:], "chosen_score", "rejected_score"]
    return draw(read_rows_at(run.path / "pairs.parquet", row_locations([chosen]), columns)[0])


def preference(row: dict[str, Any]) -> tuple[bool, int, int, int, float]:
    """A sort key; the most instructive pair has the smallest: it shows as many true and false claims as fit."""
    chosen, rejected = row["chosen_claims"], row["rejected_claims"]
    unknown = any(claim["verdict"] is None for claim in [*chosen, *rejected])
    false = sum(claim["verdict"] is False for claim in rejected)
    clear = all(claim["verdict"] for claim in chosen) and 0 < false < len(rejected) and not unknown
    too_long = max(0, len(chosen) - MOST_CLAIMS) + max(0, len(rejected) - MOST_CLAIMS)
    surest = min((certainty(claim) for claim in [*chosen, *rejected]), default=0.0)
    return not clear, too_long, -false, -len(rejected), -surest


def certainty(claim: dict[str, Any]) -> float:
    """How sure the labeler is of its verdict, 0 to 1; 0 without one."""
    return 0.0 if claim["verdict"] is None else float(abs(claim["p_yes"] - claim["p_no"]))


def draw(pair: dict[str, Any]) -> str:
    """The SVG of a row of `pairs`."""
    from markupsafe import Markup

    from rlaif.report.charts import svg_document

    body: list[Markup] = []
    image_height = draw_images(body, pair["images"])
    left = MARGIN + IMAGE + GAP
    instruction = "\n".join(message["content"] for message in pair["prompt"])
    top = draw_text(body, "instruction", left, MARGIN + 18, instruction, 2 * COLUMN + GAP, 21, 27)
    bottoms = [
        draw_side(body, pair, side, left + index * (COLUMN + GAP), top + 6)
        for index, side in enumerate(("chosen", "rejected"))
    ]
    bottom = max(*bottoms, MARGIN + image_height)
    foot = "Each claim is verified by the labeler, which sees the image. Percentages are its p(yes)."
    if not pair["chosen_claims"] and not pair["rejected_claims"]:
        foot = "An imported pair: nothing was verified."
    draw_text(body, "foot soft", left, bottom + 24, foot, 2 * COLUMN + GAP, 13, 18)
    return svg_document(WIDTH, round(bottom + 44), f"A preference pair: {instruction}", body, STYLE)


def draw_images(body: list[Any], images: Sequence[dict[str, Any]]) -> float:
    """The images of a pair one below the other; returns their height."""
    from markupsafe import Markup

    from model.images import open_image

    height = 0.0
    for item in images:
        image = open_image(item["bytes"])
        image.thumbnail((IMAGE_SIDE, IMAGE_SIDE))
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
        drawn = IMAGE * image.height / image.width
        tag = '<image x="{}" y="{:g}" width="{}" height="{:.0f}" href="data:image/png;base64,{}"/>'
        body.append(
            Markup(tag).format(MARGIN, MARGIN + height, IMAGE, drawn, base64.b64encode(buffer.getvalue()).decode())
        )
        height += drawn + 8
    return height


def draw_side(body: list[Any], pair: dict[str, Any], side: str, x: float, y: float) -> float:
    """An answer with its claims; returns the lower end."""
    from markupsafe import Markup

    from rlaif.report.sections import signed

    claims = pair[f"{side}_claims"]
    body.append(Markup('<path class="rule tone-{}" d="M{:g} {:g}h{}"/>').format(side, x, y, COLUMN))
    body.append(
        Markup('<g class="tone-{}"><text class="heading" x="{:g}" y="{:g}">{}</text></g>').format(side, x, y + 22, side)
    )
    score = pair[f"{side}_score"]
    score = "not scored" if score is None else f"score {signed(score, None)}"
    body.append(
        Markup('<text class="score soft" x="{:g}" y="{:g}" text-anchor="end">{}</text>').format(
            x + COLUMN, y + 22, score
        )
    )
    answer = "\n".join(message["content"] for message in pair[side])
    y = draw_text(body, "answer", x, y + 48, answer, COLUMN, TEXT, 21) - 6
    for claim in claims:
        y = draw_claim(body, claim, x, y)
    return y


def draw_claim(body: list[Any], claim: dict[str, Any], x: float, y: float) -> float:
    """A claim on a ground as deep as the labeler is sure of it, with its mark and p(yes); returns the lower end.

    One without a verdict has a bar as its mark.
    """
    from markupsafe import Markup

    lines = list(wrap(claim["claim"], COLUMN - 72, CLAIM))
    height = 12 + 18 * len(lines)
    tone, mark, struck = {
        True: ("chosen", "m0 4 4 4 7-9", ""),
        False: ("rejected", "m1-1 8 8m0-8-8 8", " struck"),
        None: ("margin", "m0 3h8", ""),
    }[claim["verdict"]]
    depth = 0.06 + 0.16 * certainty(claim)
    p_yes = "unknown" if claim["verdict"] is None else f"{100 * claim['p_yes']:.0f}%"
    chip = '<rect class="chip" x="{:g}" y="{:g}" width="{}" height="{}" rx="8" fill-opacity="{:.2f}"/>'
    inner = [
        Markup(chip).format(x, y, COLUMN, height, depth),
        Markup('<path class="mark" d="M{:g} {:g}{}"/>').format(x + 11, y + 12, mark),
        *(
            Markup('<text class="claim{}" x="{:g}" y="{:g}">{}</text>').format(
                struck, x + 30, y + 20 + 18 * index, line
            )
            for index, line in enumerate(lines)
        ),
        Markup('<text class="p soft" x="{:g}" y="{:g}" text-anchor="end">{}</text>').format(
            x + COLUMN - 10, y + 20, p_yes
        ),
    ]
    body.append(Markup('<g class="tone-{}">{}</g>').format(tone, Markup("").join(inner)))
    return y + height + 6


def draw_text(
    body: list[Any], kind: str, x: float, y: float, content: str, width: float, size: float, leading: float
) -> float:
    """Lines of text; y is the first base line. Returns the base line after the last."""
    from markupsafe import Markup

    for line in wrap(content, width, size):
        body.append(Markup('<text class="{}" x="{:g}" y="{:g}">{}</text>').format(kind, x, y, line))
        y += leading
    return y


def wrap(content: str, width: float, size: float) -> Iterator[str]:
    """Lines of at most `width` pixels, by the widths that letters have in common sans-serif fonts."""
    for paragraph in content.split("\n"):
        line = ""
        for word in paragraph.split():
            if line and text_width(f"{line} {word}", size) > width:
                yield line
                line = word
            else:
                line = f"{line} {word}" if line else word
        yield line


def text_width(content: str, size: float) -> float:
    narrow, wide = set("iljtfrI.,:;'|! ()"), set("mwMW@%")
    return size * sum(
        0.34 if char in narrow else 0.88 if char in wide else 1.0 if ord(char) > 0x2E7F else 0.6 for char in content
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    from rlaif.config.load import load_config
    from rlaif.storage.files import atomic_write
    from rlaif.storage.run import Run

    parser = argparse.ArgumentParser(prog="python -m rlaif.report.picture", description="One preference pair as SVG.")
    parser.add_argument("--run", required=True, type=Path, metavar="FOLDER", help="run folder, such as runs/demo")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="SVG file to write")
    parser.add_argument("--pair", metavar="ID", help="pair_id; default: the most instructive pair")
    parser.add_argument("--config", default="configs/demo.yaml", metavar="FILE", help="configuration of the run")
    arguments = parser.parse_args(argv)

    def run() -> None:
        content = picture(Run(arguments.run, load_config(arguments.config), "report"), arguments.pair)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(arguments.out) as temporary:
            temporary.write_text(content, encoding="utf-8")
        print(f"wrote {arguments.out}")

    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
