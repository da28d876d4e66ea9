"""What both checks of claims find and cost: words, and the labeler's answer to "Does the text say that ...?".

    make checks                 responses of runs/demo; another run or labeler: RUN=runs/mine CONFIG=configs/mine.yaml

Of a description of an embedded scene it is known which claims it makes. Each description gets its own claims, and the
same claims with one part exchanged, so that the description does not make them. Each check says of each claim
whether the description makes it. With `--splits FILE`, as `python -m feedback.check_splits` reads it, a second table
counts what words make of the claims and questions of other answers.
"""

import argparse
import random
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from feedback.check.claim import Source, check_claim
from feedback.check_splits import check_file
from feedback.labeler_prompts import read_prompts
from feedback.verify import verify
from rlaif.command import at_least_one, exit_status
from rlaif.config.load import load_config
from rlaif.errors import InputError
from rlaif.inference.open import open_engine
from rlaif.inference.revision import pin_model
from rlaif.text import clean
from scenes.language import KindMention, Mention, RelationMention, SignMention, ThingMention, find_mentions
from scenes.language.mentions import NUMBERS, RELATIONS, describes
from scenes.world import PLACES, SIZES
from scenes.world.signs import WORDS
from scenes.world.things import COLORS, KINDS, THINGS

Case = tuple[Source, str, str, bool]  # source, claim, question, whether the source makes the claim


def cases_of(responses: Sequence[str], seed: int) -> list[Case]:
    """The claims of each response, and each with one part exchanged; without those for which `changed` has none."""
    rng = random.Random(seed)
    cases = []
    for text in responses:
        source, mentions = Source("", text), find_mentions(text)
        for mention in mentions:
            if (other := changed(mention, mentions, rng)) is None:
                continue
            cases += [(source, item.claim, item.question, item is mention) for item in (mention, other)]
    return cases


def changed(mention: Mention, mentions: Sequence[Mention], rng: random.Random) -> Mention | None:
    """The mention with one part exchanged, as no mention of the response has it; None if the response has them all."""
    parts = alternatives(mention)
    others = (replace(mention, **{name: value}) for name, values in parts.items() for value in values)
    if all(any(says(it, other) for it in mentions) for other in others):  # such as a response with every kind of scene
        return None
    while True:
        name = rng.choice(list(parts))
        other = replace(mention, **{name: rng.choice(parts[name])})
        if not any(says(it, other) for it in mentions):
            return other


def alternatives(mention: Mention) -> dict[str, Sequence[Any]]:
    """What may stand in each part of the mention."""
    if isinstance(mention, SignMention):
        return {"text": WORDS}
    if isinstance(mention, KindMention):
        return {"kind": KINDS}
    if isinstance(mention, RelationMention):
        return {"relation": RELATIONS} | {
            part: [name for name in THINGS if name not in (mention.name, mention.other)] for part in ("name", "other")
        }
    several = range(2, 2 + len(NUMBERS))  # not one: of two apples there also is one
    parts: dict[str, Sequence[Any]] = {"name": list(THINGS), "number": several, "color": COLORS, "place": PLACES}
    return {name: values for name, values in {**parts, "size": list(SIZES)}.items() if getattr(mention, name)}


def says(mention: Mention, other: Mention) -> bool:
    """Whether the first says all that the other does."""
    if isinstance(mention, ThingMention) and isinstance(other, ThingMention):
        return describes(other, vars(mention))
    return mention == other


def row(name: str, cases: Sequence[Case], said: Sequence[bool], seconds: float) -> str:
    """A row of the Markdown table that `main` prints."""
    own = [found for found, case in zip(said, cases, strict=True) if case[3]]
    wrong = [not found for found, case in zip(said, cases, strict=True) if not case[3]]
    kept, caught = f"{sum(own) / len(own):.1%} of {len(own):,}", f"{sum(wrong) / len(wrong):.1%} of {len(wrong):,}"
    return f"| {name} | {kept} | {caught} | {1000 * seconds / len(cases):.2f} |"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.checks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--config", default="configs/demo.yaml", help="configuration with the labeler")
    parser.add_argument("--run", default="runs/demo", type=Path, help="run of the embedded scenes with responses")
    parser.add_argument("--responses", type=at_least_one, default=300, help="responses, drawn from those of the run")
    parser.add_argument("--splits", type=Path, metavar="FILE", help="JSON lines: instruction, response, claims")
    arguments = parser.parse_args(argv)
    return exit_status(lambda: measure(arguments))


def measure(arguments: argparse.Namespace) -> None:
    """Measure both checks and print the tables. Errors: RlaifError."""
    config, file = load_config(arguments.config), arguments.run / "responses.parquet"
    if not file.is_file():
        raise InputError(f"{file} is missing; run `make generate` first, or name a run with RUN= (--run)")
    texts = pq.read_table(file, columns=["text"])["text"].to_pylist()
    distinct = [clean(text) for text in dict.fromkeys(texts)]
    cases = cases_of(random.Random(config.seed).sample(distinct, min(arguments.responses, len(distinct))), config.seed)
    if not cases:
        raise InputError(
            f"no response in {file} is about an embedded scene; name a run of data.source=scenes with RUN= (--run)"
        )
    splits = list(check_file(arguments.splits)) if arguments.splits else []
    start = time.perf_counter()
    by_words = [check_claim(claim, question, source).outcome != "unknown" for source, claim, question, _ in cases]
    word_seconds = time.perf_counter() - start
    prompts = read_prompts(config.feedback.prompts)
    requests = [prompts.format_supported(source.instruction, source.response, claim) for source, claim, *_ in cases]
    section, _ = pin_model(config.labeler)
    with closing(open_engine(section, config.engine, config.seed)) as engine:
        start = time.perf_counter()
        asked = {("", text) for text in requests}
        verdicts = engine.run(verify(engine, asked, {"": None}, config.feedback.answers))
        labeler_seconds = time.perf_counter() - start
    by_labeler = [("", text) in verdicts and verdicts["", text].accepted for text in requests]
    print("| check | claims of the response that it keeps | other claims that it stops | seconds per 1,000 claims |")
    print("|---|---|---|---|")
    print(row("words", cases, by_words, word_seconds))
    print(row("labeler", cases, by_labeler, labeler_seconds))
    if splits:
        *claims, totals = splits
        unclear = sum(claim["unclear"] for claim in claims)
        print("\n| other answers | lost | claims | asked | restated | unknown | of which the labeler would be asked |")
        print("|---|---|---|---|---|---|---|")
        names = ("responses", "responses_lost", "claims", "asked", "restated", "unknown")
        print(f"| {' | '.join(f'{totals[name]:,}' for name in names)} | {unclear:,} |")


if __name__ == "__main__":
    sys.exit(main())
