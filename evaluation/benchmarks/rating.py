"""Rates answers to MMHal-Bench with a local model, several times each. Answers in, ratings out.

The prompt is a text file (`benchmark.rater.prompt`, by default rate.txt); the rater sees no image. Its output is JSON
that follows `SCHEMA`: the explanation comes first, so that the rating follows from it, and has a limited length, so
that the rating is reached. Endpoints that ignore the schema answer in other forms: see `read_rating`. Output without a
readable rating is dropped as `unrated`.
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from evaluation.benchmarks.mmhal import RATINGS, MMHal
from rlaif.config import Config
from rlaif.errors import ConfigError
from rlaif.inference.engine import PROMPT_TOO_LONG, Advance, Completion, Engine, OpenEngine, Request
from rlaif.inference.revision import pin_model
from rlaif.progress import progress_bar
from rlaif.storage.files import make_id
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from rlaif.storage.writer import TableWriter

DEFAULT_PROMPT = Path(__file__).with_name("rate.txt")
PLACEHOLDERS = ("{image_content}", "{question}", "{gt_answer}", "{response}")
ANSWERS_PER_CHUNK = 100  # answers rated per write
_NUMBER = r"(?P<rating>-?\d+(?:[.,]\d+)?)(?:\s*(?:/|out of|von)\s*(?P<scale>\d+))?"
_GAP = r"(?:[^\w-]|-(?!\d))*"
_NAMED = re.compile(
    rf"(?:\brating|\bscore|\bbewertung|评分|評分|评级|得分|分数){_GAP}(?:is|of|ist|是|为|為)?{_GAP}{_NUMBER}",
    re.IGNORECASE,
)
_ALONE = re.compile(rf"\W*?{_NUMBER}\s*分?\W*")
SCHEMA = {
    "type": "object",
    "properties": {
        "explanation": {"type": "string", "maxLength": 400},
        "rating": {"type": "integer", "enum": list(RATINGS)},
    },
    "required": ["explanation", "rating"],
    "additionalProperties": False,
}


def rate(config: Config, folder: Path, mmhal: MMHal, open_engine: OpenEngine) -> dict[str, dict[int, int]]:
    """Ratings by question_id and run of the answers in `folder`; answers that have ratings on disk are skipped.

    Errors: RlaifError for anything that the user can fix.
    """
    settings = config.benchmark.rater
    if settings.temperature == 0 and settings.runs > 1:
        raise ConfigError(
            f"benchmark.rater.temperature is 0 and runs is {settings.runs}: greedy ratings are all the same; set "
            "temperature above 0, or runs to 1"
        )
    rater, revision = pin_model(settings.model or config.labeler)
    prompt = read_prompt(settings.prompt)
    run = Run(folder, config, "rating")
    identity = {
        "seed": config.seed,
        "rater": {**rater.identity(), "revision": revision},
        "prompt": prompt,
        "known": make_id(*(mmhal.request("".join(PLACEHOLDERS), key, "") for key in mmhal.known)),
        **settings.model_dump(include={"runs", "temperature", "max_tokens"}),
        **config.engine.identity(),
    }
    if run.begin(["ratings"], identity, inputs=["answers"]):
        run.announce(f"{rater.model} rates each answer {settings.runs} times")
        answers = {row["question_id"]: row["text"] for row in read_rows(run, "answers", ["question_id", "text"])}
        with TableWriter(run, "ratings", key="question_id") as writer:
            finished = {*writer.done, *run.dropped()}
            todo = [key for key in answers if key not in finished]
            if todo:
                with (
                    closing(open_engine(rater, config.engine, config.seed)) as engine,
                    progress_bar("ratings", "answer", len(answers), len(answers) - len(todo)) as bar,
                ):
                    for start in range(0, len(todo), ANSWERS_PER_CHUNK):
                        chunk = {key: answers[key] for key in todo[start : start + ANSWERS_PER_CHUNK]}
                        _rate_chunk(run, engine, (rater.model, revision), mmhal, prompt, chunk, writer, bar.update)
        run.finish({"ratings": writer.finish()}, next_command=None)
    ratings: dict[str, dict[int, int]] = defaultdict(dict)
    for row in read_rows(run, "ratings", ["question_id", "run_index", "rating"]):
        ratings[row["question_id"]][row["run_index"]] = row["rating"]
    return ratings


def _rate_chunk(
    run: Run[Config],
    engine: Engine,
    rater: tuple[str, str],
    mmhal: MMHal,
    prompt: str,
    answers: Mapping[str, str],
    writer: TableWriter,
    advance: Advance,
) -> None:
    """Write the ratings of some answers; rater: its model and revision."""
    settings = run.config.benchmark.rater
    requests = [
        Request(
            mmhal.request(prompt, key, text),
            n=settings.runs,
            seed=int(make_id(str(run.config.seed), key), 16) % 2**31,
            temperature=settings.temperature,
            max_tokens=settings.max_tokens,
            json_schema=SCHEMA,
        )
        for key, text in answers.items()
    ]
    results = engine.generate(requests, advance)
    for key, request, completions in zip(answers, requests, results, strict=True):
        if completions[0].finish_reason == PROMPT_TOO_LONG:
            run.drop(key, PROMPT_TOO_LONG, "does not fit the rater; see engine.max_model_len")
            continue
        rows = []
        for index, completion in enumerate(completions):
            if (rating := read_rating(completion)) is None:
                run.drop(f"{key}, run {index + 1}", "unrated", completion.text[:200])
                continue
            row = {
                "question_id": key,
                "run_index": index,
                "seed": request.seed,
                "rating": rating,
                "text": completion.text,
                "rater": rater[0],
                "rater_revision": rater[1],
            }
            rows.append(row)
        if not rows:
            run.drop(key, "never_rated", f"in none of {settings.runs} runs")
        writer.write(rows)
    writer.flush()


def read_rating(completion: Completion) -> int | None:
    """The rating in one output of the rater; None if it has none, several different ones, or one that is not in 0..6.

    JSON that follows the schema, in a fence or with text around it; from an endpoint that ignores the schema also a
    named rating ("Rating: 4", "**Score**: 4/6") or a number alone. Parts of a rating (4.5) and other scales
    (8/10) are not read. A JSON rating that was cut is not read either: text in it proves nothing.
    """
    text = completion.text.strip()
    if json_start := re.search(r'\{\s*"', text):
        try:
            rating = json.JSONDecoder(strict=False).raw_decode(text, json_start.start())[0].get("rating")
        except ValueError:
            return None
        text = "" if isinstance(rating, bool) else str(rating)
    alone = _ALONE.fullmatch(text)
    matches = [alone] if alone else [] if json_start else list(_NAMED.finditer(text))
    ratings = {_in_range(match["rating"], match["scale"]) for match in matches}
    return ratings.pop() if len(ratings) == 1 else None


def _in_range(rating: str, scale: str | None) -> int | None:
    """A rating as a number, if it is one of the seven on their own scale."""
    if scale not in (None, str(RATINGS[-1])) or not re.fullmatch(r"\d(?:[.,]0+)?", rating):
        return None
    return int(rating[0]) if int(rating[0]) in RATINGS else None


def read_prompt(path: str | None) -> str:
    """The request to the rater. Errors: ConfigError: the file, or one of its placeholders, is missing."""
    file = Path(path) if path else DEFAULT_PROMPT
    if not file.is_file():
        raise ConfigError(f"benchmark.rater.prompt: no file {file}; set it to a text file such as {DEFAULT_PROMPT}")
    try:
        text = file.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"benchmark.rater.prompt: {file} is not UTF-8 text ({error.reason}); save it as UTF-8"
        ) from error
    if missing := [placeholder for placeholder in PLACEHOLDERS if placeholder not in text]:
        raise ConfigError(
            f"benchmark.rater.prompt: {file} has no {', '.join(missing)}; write each placeholder where its text goes"
        )
    return text
