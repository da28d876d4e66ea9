"""Runs a public hallucination benchmark on the policy before and, if the run has an aligned one, after alignment.

    python -m evaluation.benchmarks --config configs/demo.yaml --run runs/demo --set benchmark.name=pope

`benchmark.path` names the folder with the benchmark's published files (see chair.py, amber.py, pope.py, mmhal.py).
Without it, and with data.source scenes, the embedded scenes are written in the same formats. Writes

    benchmarks/<name>/before/answers.parquet, after/...     greedy answers, one row per question
    benchmarks/<name>/.../ratings.parquet                   ratings of the answers (mmhal)
    metrics.json, under benchmarks.<name>                   figures, 95% confidence intervals (bootstrap over images),
                                                            and the ids of the images that the answers are about

A stopped benchmark resumes from what is on disk. Answers are generated once; figures are computed on every run.
"""

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
from rlaif.config import BenchmarkSection, Config, ModelSection
from rlaif.errors import ConfigError, InputError
from rlaif.inference.engine import REFUSALS, Advance, Engine, OpenEngine, Request
from rlaif.inference.open import open_engine
from rlaif.inference.revision import pin_model
from rlaif.progress import progress_bar
from rlaif.report.figures import format_with_interval
from rlaif.storage.files import atomic_folder
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from rlaif.storage.writer import TableWriter

QUESTIONS_PER_CHUNK = 200  # answers per write: bounds memory, and the work that a kill loses
READERS: dict[str, Callable[[Path, BenchmarkSection], Benchmark | MMHal]] = {
    "chair": read_chair,
    "amber": read_amber,
    "pope": read_pope,
    "mmhal": read_mmhal,
}
Side = dict[str, Any]  # figures, intervals, answers, dropped and images (their ids) of one policy


def benchmark(config: Config, path: Path, open_engine: OpenEngine = open_engine) -> None:
    """Run the stage. Errors: RlaifError for anything that the user can fix."""
    section = config.benchmark
    if section.name is None:
        raise ConfigError(f"benchmark.name is not set; set one, as in make benchmark NAME=pope: {', '.join(READERS)}")
    folder = path / "benchmarks" / section.name
    files = Path(section.path) if section.path else embedded_files(config, folder)
    data = READERS[section.name](files, section)
    policies = {"before": config.policy}
    if (path / "policy").is_dir():
        policies["after"] = config.policy.model_copy(update={"model": str(path / "policy"), "revision": None})
    sides: dict[str, Side] = {}
    for which, policy in policies.items():
        images = images_folder(files, section)
        texts = answer_questions(config, folder / which, policy, data.questions, images, open_engine)
        counts = counts_by_image(config, folder / which, data, texts, open_engine)
        sides[which] = {
            "figures": data.figures(total(counts)),
            "intervals": intervals(counts, data.figures, config.seed),
            "answers": len(texts),
            "dropped": len(data.questions) - len(texts),
            "images": sorted({question.image_id for question in data.questions if question.question_id in texts}),
        }
    Run(path, config, "benchmark").update_metrics(benchmarks={section.name: sides})
    print(figures_table(section.name, sides))


def embedded_files(config: Config, folder: Path) -> Path:
    """The folder with the embedded scenes in the files of the benchmark, written on first use.

    Errors: ConfigError if the run has another source of images.
    """
    section = config.benchmark
    assert section.name is not None
    if config.data.source != "scenes":
        raise ConfigError(
            f"benchmark.path is not set and data.source is {config.data.source}; set benchmark.path to the folder with "
            f"the published files of {section.name}, or data.source to scenes for the embedded ones"
        )
    from scenes.benchmarks import write_files

    files = folder / f"scenes-{section.scenes}"
    if not files.is_dir():
        with atomic_folder(files) as temporary:
            write_files(section.name, temporary, section.scenes)
    return files


def answer_questions(
    config: Config,
    folder: Path,
    policy: ModelSection,
    questions: Sequence[Question],
    images: Path,
    open_engine: OpenEngine,
) -> dict[str, str]:
    """Greedy answers by question_id, read from disk where they exist.

    Errors: InputError: every question was dropped.
    """
    run = Run(folder, config, "benchmark")
    section = config.benchmark
    policy, revision = pin_model(policy)
    settings = {
        **section.model_dump(include={"name", "suffix", "limit"}),
        "questions": digest(questions, images),
        "policy": {**policy.model_dump(include={"dtype"}), "revision": revision},
        "max_tokens": config.evaluation.max_tokens,
        **config.engine.identity(),
    }
    if run.begin(["answers"], settings, inputs=[]):
        run.announce(f"{len(questions):,} questions of {section.name}, greedy answers of {policy.model}")
        with TableWriter(run, "answers", key="question_id") as writer:
            finished = {*writer.done, *run.dropped()}
            todo = [question for question in questions if question.question_id not in finished]
            todo.sort(key=lambda question: question.image_id)  # questions about one image share its encoding
            if todo:
                with (
                    closing(open_engine(policy, config.engine, config.seed)) as engine,
                    progress_bar("answers", "question", len(questions), len(questions) - len(todo)) as bar,
                ):
                    for start in range(0, len(todo), QUESTIONS_PER_CHUNK):
                        chunk = todo[start : start + QUESTIONS_PER_CHUNK]
                        _answer_chunk(run, engine, (policy.model, revision), chunk, images, writer, bar.update)
            if not writer.done and len(run.dropped()) == len(questions):
                reasons = ", ".join(f"{number} {reason}" for reason, number in Counter(run.dropped().values()).items())
                raise InputError(
                    f"all questions of {section.name} were dropped ({reasons}); expected its images in {images}; set "
                    "benchmark.images to their folder"
                )
        run.finish({"answers": writer.finish()}, next_command=None)
    return {row["question_id"]: row["text"] for row in read_rows(run, "answers", ["question_id", "text"])}


def _answer_chunk(
    run: Run[Config],
    engine: Engine,
    policy: tuple[str, str],
    questions: Sequence[Question],
    images: Path,
    writer: TableWriter,
    advance: Advance,
) -> None:
    """Write the answers to some questions; policy: its model and revision."""
    config = run.config
    contents: dict[bytes | str, bytes | None] = {}
    requests = []
    for question in questions:
        if contents.get(question.image) is None:  # each question about an unusable image is dropped
            contents[question.image] = usable_image(question, images, run.drop)
        if (image := contents[question.image]) is not None:
            text = question.text + config.benchmark.suffix
            request = Request(text, image, seed=config.seed, max_tokens=config.evaluation.max_tokens)
            requests.append((question, request))
    answers = engine.generate([request for _, request in requests], advance)
    for (question, request), (answer,) in zip(requests, answers, strict=True):
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


def counts_by_image(
    config: Config, folder: Path, data: Benchmark | MMHal, texts: dict[str, str], open_engine: OpenEngine
) -> list[Counts]:
    """What the answers about each image add to the sums behind the figures; the answers to MMHal are rated first."""
    by_image: dict[str, Counts] = defaultdict(Counter)
    ratings = rate(config, folder, data, open_engine) if isinstance(data, MMHal) else {}
    for question in data.questions:
        key = question.question_id
        if key in texts:
            counts = (
                data.count(question, ratings.get(key, {}))
                if isinstance(data, MMHal)
                else data.count(question, texts[key])
            )
            by_image[question.image_id].update(counts)
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
    lines.append("in brackets: 95% confidence intervals (bootstrap over images)")
    for which, side in sides.items():
        if side["dropped"]:
            lines.append(f"{which}: {side['dropped']:,} questions were dropped; their reasons are counted above")
    return "\n".join(lines)
