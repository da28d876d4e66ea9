"""Sample K responses to each prompt, an image with an instruction.

    python -m generation --config configs/demo.yaml --run runs/demo

Writes `prompts` (all splits of the source) and `responses` (to the prompts of `generation.splits`). A stopped stage
resumes from what is on disk.
"""

from collections import Counter
from functools import partial
from pathlib import Path

from generation.prompts import build_prompts
from generation.sampling import sample_responses
from generation.sources import pin_data, read_pictures, source_files
from rlaif.config import Config
from rlaif.errors import ConfigError, InputError
from rlaif.inference.engine import OpenEngine
from rlaif.inference.first_answers import open_checked
from rlaif.inference.open import open_engine
from rlaif.inference.revision import pin_model
from rlaif.inference.work.chunks import EngineSpec
from rlaif.progress import progress_bar
from rlaif.storage.run import Run
from rlaif.storage.tables import count_rows, read_rows
from rlaif.storage.writer import TableWriter


def generate(config: Config, path: Path, open_engine: OpenEngine = open_engine) -> None:
    """Run the stage. Errors: RlaifError for anything that the user can fix."""
    sampling = config.generation
    if sampling.temperature == 0 and sampling.num_responses > 1:
        raise ConfigError(
            f"generation.temperature is 0 with num_responses {sampling.num_responses}: greedy responses would all be "
            "equal; set temperature above 0, or num_responses to 1"
        )
    config = config.model_copy(update={"data": pin_data(config.data)})
    data = config.data
    run = Run(path, config, "generation")
    policy, revision = pin_model(config.policy)
    settings = {
        "seed": config.seed,
        "round": config.round,
        "policy": {**config.policy.identity(), "revision": revision},
        "data": {**data.model_dump(), **source_files(data)},
        "generation": sampling.model_dump(),
        **config.engine.identity(),
    }
    if not run.begin(["prompts", "responses"], settings, inputs=[]):
        return
    run.announce(
        f"prompts from {data.source}" + (f" {data.path}" if data.path else ""),
        f"samples {sampling.num_responses} responses per prompt of {' and '.join(sampling.splits)} from "
        f"{config.policy.model}, "
        f"temperature {sampling.temperature}, top_p {sampling.top_p}, at most {sampling.max_tokens} tokens",
    )
    if not (path / "prompts.parquet").is_file():
        write_prompts(run)
    with TableWriter(run, "responses", key="prompt_id") as writer:
        checked = partial(open_checked, open_engine, "policy", 0.0)
        sample_responses(run, EngineSpec(policy, config.engine, config.seed, checked), revision, writer)
    finish(run)


def write_prompts(run: Run) -> None:
    """Read the source, check every image, write `prompts`. Errors: InputError if no prompt remains."""
    data = run.config.data
    dropped: Counter[str] = Counter()

    def drop(row_id: str, reason: str, detail: str) -> None:
        dropped[reason] += 1
        run.drop(row_id, reason, detail)

    writer = TableWriter(run, "prompts", key="prompt_id")
    pictures = read_pictures(data, run.config.seed, run.config.round)
    tally: Counter[str] = Counter()
    rows = build_prompts(pictures, data, writer.done, drop, run.config.round, tally)
    written = 0
    with progress_bar("prompts", "prompt", total=None, done=len(writer.done)) as bar:
        for row in rows:
            writer.write([row])
            written += 1
            bar.update()
    if marked := tally["marked"]:
        print(f"{marked:,} instructions had image marks such as <image>; they were taken out, the image is sent anyway")
    if repeated := tally["repeated"]:
        print(f"{repeated:,} rows repeat an earlier image and instruction and are not used again")
    if not written and not writer.done:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "it is empty"
        raise InputError(f"no usable prompt in {data.path or data.source} ({reasons}); correct data.path or its files")
    writer.finish()


def finish(run: Run) -> None:
    """Count cut and empty responses, and finish the stage."""
    responses = cut_off = empty = 0
    for row in read_rows(run, "responses", ["text", "finish_reason"]):
        responses += 1
        cut_off += row["finish_reason"] == "length"
        empty += not row["text"].strip()
    run.update_metrics(generation={"responses_cut_off": cut_off, "responses_empty": empty})
    print(f"{responses:,} responses: {cut_off:,} cut off by max_tokens, {empty:,} empty; feedback will drop both")
    kept = {"prompts": count_rows(run, "prompts"), "responses": responses}
    run.finish(kept, f"make feedback RUN={run.path}, with the same CONFIG and SET")
