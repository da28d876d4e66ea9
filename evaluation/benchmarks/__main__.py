"""Runs a public hallucination benchmark on the policy, before and, where the run has an aligned one, after alignment.

    python -m evaluation.benchmarks --config configs/demo.yaml --run runs/demo --set benchmark.name=pope

`benchmark.path` names the folder with the benchmark's published files (which ones: see chair.py, amber.py, pope.py,
mmhal.py); without it, and with data.source scenes, the embedded scenes are written in the same formats. Writes

    benchmarks/<name>/before/answers.parquet, after/...     greedy answers, one row a question
    benchmarks/<name>/.../ratings.parquet                   ratings of answers (mmhal)
    metrics.json, under benchmarks.<name>                   figures with 95% confidence intervals (drawing images anew)

Stopped, it goes on from what is on disk; answers are asked for once, figures are computed on every run.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from evaluation.benchmarks.amber import read_amber
from evaluation.benchmarks.chair import read_chair
from evaluation.benchmarks.mmhal import MMHal, read_mmhal
from evaluation.benchmarks.pope import read_pope
from evaluation.benchmarks.questions import Benchmark, Question, digest, images_folder, usable_image
from evaluation.benchmarks.rating import rate
from evaluation.statistics import Counts, intervals, total
from rlaif.command import run_stage
from rlaif.config import BenchmarkSection, Config, ModelSection
from rlaif.errors import ConfigError, InputError
from rlaif.inference.engine import REFUSALS, Advance, Engine, OpenEngine, Request
from rlaif.inference.open import open_engine
from rlaif.inference.revision import model_revision
from rlaif.progress import progress_bar
from rlaif.report.figures import format_with_interval
from rlaif.storage.files import atomic_folder
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from rlaif.storage.writer import TableWriter

QUESTIONS_AT_ONCE = 200  # asked in one go and then on disk; bounds memory and what a kill costs
READERS: dict[str, Callable[[Path, BenchmarkSection], Benchmark | MMHal]] = {
    "chair": read_chair,
    "amber": read_amber,
    "pope": read_pope,
    "mmhal": read_mmhal,
}
Side = dict[str, Any]  # figures, intervals, answers and dropped of one policy


def benchmark(config: Config, path: Path, serve: OpenEngine = open_engine) -> None:
    """The stage. Errors: RlaifError for whatever the user can put right."""
    section = config.benchmark
    if section.name is None:
        raise ConfigError(f"benchmark.name is not set; name one, as in make benchmark NAME=pope: {', '.join(READERS)}")
    home = path / "benchmarks" / section.name
    folder = Path(section.path) if section.path else embedded_files(config, home)
    data = READERS[section.name](folder, section)
    policies = {"before": config.policy}
    if (path / "policy").is_dir():
        policies["after"] = config.policy.model_copy(update={"model": str(path / "policy"), "revision": None})
    sides: dict[str, Side] = {}
    for which, model in policies.items():
        texts = ask(config, home / which, model, data.questions, images_folder(folder, section), serve)
        counts = count(config, home / which, data, texts, serve)
        sides[which] = {
            "figures": data.figures(total(counts)),
            "intervals": intervals(counts, data.figures, config.seed),
            "answers": len(texts),
            "dropped": len(data.questions) - len(texts),
        }
    Run(path, config, "benchmark").update_metrics(benchmarks={section.name: sides})
    print(figures_table(section.name, sides))


def embedded_files(config: Config, home: Path) -> Path:
    """The folder with the embedded scenes in the files of the benchmark, written on first use."""
    section = config.benchmark
    assert section.name is not None
    if config.data.source != "scenes":
        raise ConfigError(
            f"benchmark.path is not set: it names the folder with the published files of {section.name}; without it "
            f"the embedded scenes are asked about, which are for data.source scenes, not for {config.data.source}"
        )
    from scenes.benchmarks import write_files

    folder = home / f"scenes-{section.scenes}"
    if not folder.is_dir():
        with atomic_folder(folder) as temporary:
            write_files(section.name, temporary, section.scenes)
    return folder


def ask(
    config: Config, home: Path, model: ModelSection, questions: Sequence[Question], images: Path, serve: OpenEngine
) -> dict[str, str]:
    """Greedy answers by question_id, from disk where they are there. Errors: InputError: nothing could be asked."""
    run = Run(home, config, "benchmark")
    section, revision = config.benchmark, model_revision(model)
    settings = {
        **section.model_dump(include={"name", "suffix", "limit"}),
        "questions": digest(questions, images),
        "policy": {**model.model_dump(include={"dtype"}), "revision": revision},
        "max_tokens": config.evaluation.max_tokens,
        "max_model_len": config.engine.max_model_len,
    }
    if run.begin(["answers"], settings, inputs=[]):
        run.announce(f"{len(questions):,} questions of {section.name}, greedy answers of {model.model}")
        with TableWriter(run, "answers", key="question_id") as writer:
            put_aside = run.dropped()
            todo = [it for it in questions if it.question_id not in writer.done and it.question_id not in put_aside]
            todo.sort(key=lambda question: question.image_id)  # questions about one image share its encoding
            if todo:
                with (
                    closing(serve(model, config.engine, config.seed)) as engine,
                    progress_bar("answers", "question", len(questions), len(questions) - len(todo)) as bar,
                ):
                    for start in range(0, len(todo), QUESTIONS_AT_ONCE):
                        some = todo[start : start + QUESTIONS_AT_ONCE]
                        _ask(run, engine, (model.model, revision), some, images, writer, bar.update)
            if not writer.done and len(run.dropped()) == len(questions):
                reasons = ", ".join(f"{number} {why}" for why, number in Counter(run.dropped().values()).items())
                raise InputError(
                    f"no question of {section.name} could be asked ({reasons}); its images are looked for in {images}, "
                    "which benchmark.images names"
                )
        run.finish({"answers": writer.finish()}, next_command=None)
    return {row["question_id"]: row["text"] for row in read_rows(run, "answers", ["question_id", "text"])}


def _ask(
    run: Run[Config],
    engine: Engine,
    policy: tuple[str, str],
    questions: Sequence[Question],
    images: Path,
    writer: TableWriter,
    advance: Advance,
) -> None:
    config = run.config
    opened: dict[bytes | str, bytes | None] = {}
    asked = []
    for question in questions:
        if question.image not in opened or opened[question.image] is None:
            opened[question.image] = usable_image(question, images, run.drop)
        if (image := opened[question.image]) is not None:
            text = question.text + config.benchmark.suffix
            request = Request(text, image, seed=config.seed, max_tokens=config.evaluation.max_tokens)
            asked.append((question, request))
    answers = engine.generate([request for _, request in asked], advance)
    for (question, request), (answer,) in zip(asked, answers, strict=True):
        if (refusal := answer.finish_reason) in REFUSALS:
            run.drop(question.question_id, refusal, REFUSALS[refusal])
            continue
        row = {
            "question_id": question.question_id,
            "image_id": question.image_id,
            "question": request.text,
            "text": answer.text,
            "finish_reason": answer.finish_reason,
            "num_tokens": answer.num_tokens,
            "model": policy[0],
            "model_revision": policy[1],
        }
        writer.write([row])
    writer.flush()


def count(
    config: Config, home: Path, data: Benchmark | MMHal, texts: dict[str, str], serve: OpenEngine
) -> list[Counts]:
    """What the answers about each image add to the sums behind the figures."""
    by_image: dict[str, Counts] = defaultdict(Counter)
    ratings = rate(config, home, data, serve) if isinstance(data, MMHal) else {}
    for question in data.questions:
        if question.question_id not in texts:
            continue
        if isinstance(data, MMHal):
            own = data.count(question, ratings.get(question.question_id, {}))
        else:
            own = data.count(question, texts[question.question_id])
        by_image[question.image_id].update(own)
    return list(by_image.values())


def figures_table(name: str, sides: dict[str, Side]) -> str:
    """The figures of each policy with their intervals, as text for the terminal."""
    lines = [f"{name:28}" + "".join(f"{which:>24}" for which in sides)]
    for figure in next(iter(sides.values()))["figures"]:
        cells = [
            format_with_interval(figure, side["figures"].get(figure), side["intervals"].get(figure))
            for side in sides.values()
        ]
        lines.append(f"{figure:28}" + "".join(f"{cell:>24}" for cell in cells))
    lines.append("in brackets: 95% confidence intervals, by drawing other images")
    for which, side in sides.items():
        if side["dropped"]:
            lines.append(f"{which}: {side['dropped']:,} questions are left out; the reasons are counted above")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(Config, "evaluation.benchmarks", (__doc__ or "").splitlines()[0], benchmark, argv)


if __name__ == "__main__":
    sys.exit(main())
