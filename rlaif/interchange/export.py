"""Exports pairs as a data set for other tools, with a card; uploads it only if `export.push` is set.

    make export RUN=runs/demo FORMAT=llama-factory
    python -m rlaif.interchange --config configs/demo.yaml --run runs/demo --set export.format=llama-factory

Reads `pairs` and writes runs/<name>/export/<format>: the files of `rlaif.interchange.formats`, and README.md, the card
of `rlaif.interchange.card`.
The files are written once, under a temporary name until they are complete; pairs that do not fit the format are dropped
with a reason. The card is written on every run, because figures or a license may have been added.
`export.push=owner/name` also uploads the folder, to a private data set unless `export.private` is false.
"""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from rlaif.config import Config
from rlaif.errors import ConfigError, InputError, PushError
from rlaif.interchange.card import length_figures, model_names, write_card
from rlaif.interchange.formats import SplitFiles, dataset_info, fitting_pairs, text_of, with_plain_images
from rlaif.storage.files import write_json
from rlaif.storage.run import Run
from rlaif.storage.tables import answers_are_cut, count_rows, read_parts, read_rows
from rlaif.text import words


def export(config: Config, path: Path) -> Path:
    """Write the folder and its card, and push it if `export.push` is set; returns the folder. Errors: RlaifError."""
    section = config.export
    if section.push and section.license is None:
        raise ConfigError(
            f"export.push is {section.push}, but export.license is not set; name the license of the data set, for "
            'example SET="export.license=cc-by-4.0"'
        )
    run = Run(path, config, f"export-{section.format}")
    if answers_are_cut(run):
        raise ConfigError(
            f"the pairs of {path} were made with feedback.pairs=first_difference: they end within an answer, where "
            "other tools would train an end; train them with `make dpo`, or make pairs of responses in another run"
        )
    output = f"export/{section.format}"
    if run.begin([output], {"format": section.format}, inputs=["pairs"]):
        run.announce(f"{count_rows(run, 'pairs'):,} pairs for {section.format}")
        figures = write_files(run, path / output)
        run.update_metrics(export={section.format: figures})
        run.finish({"pairs": sum(figures["pairs"].values())}, next_command=None)
    card = write_card(run, path / output)
    print(f"  wrote    {card}")
    if section.push:
        print(f"  pushed   {push(path / output, section.push, section.private)}")
    return path / output


def write_files(run: Run, target: Path) -> dict[str, Any]:
    """Fill `target`; returns figures: pairs by split, and the lengths of both sides in words."""
    kind = run.config.export.format
    work = run.path / run.stage  # renamed to `target` when it is complete
    for leftover in (work, target):
        shutil.rmtree(leftover, ignore_errors=True)
    work.mkdir(parents=True)
    lengths: dict[str, list[int]] = {"chosen": [], "rejected": []}
    with SplitFiles(work, kind, origin(run) if kind == "rlaif-v" else {}) as files:
        for part in read_parts(run, "pairs"):
            pairs = with_plain_images(fitting_pairs(part, kind, run.drop), run.drop)
            for side, counts in lengths.items():
                counts += [len(words(text)) for text in text_of(pairs, side).to_pylist()]
            files.write(pairs)
    if not files.rows:
        raise InputError(
            f"none of the {count_rows(run, 'pairs'):,} pairs of {run.path} can be exported as {kind}; "
            "choose another FORMAT="
        )
    if kind == "llama-factory":
        info = dataset_info(re.sub(r"\W", "_", run.path.resolve().name), list(files.rows))
        write_json(work / "dataset_info.json", info)
    target.parent.mkdir(exist_ok=True)
    os.replace(work, target)
    return {"pairs": files.rows, "words": {side: length_figures(counts) for side, counts in lengths.items()}}


def origin(run: Run) -> dict[str, str]:
    """The columns of RLAIF-V-Dataset that are equal for all pairs of a run; origin_split is JSON, as there."""
    policy, labeler = model_names(run)
    source = next(read_rows(run, "prompts", ["source"]))["source"]
    return {
        "ds_name": run.path.resolve().name,
        "origin_dataset": source,
        "origin_split": json.dumps({"model": policy, "labeler": labeler}),
    }


def push(folder: Path, repo: str, private: bool) -> str:
    """Upload the folder to a hub data set, which is created if it does not exist; returns the URL of the commit.

    Errors: PushError, in one line and without the token; also if the data set has files that are not in this folder,
    or is public although `private` is set.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HTTPError

    token = get_token()
    if token is None:
        raise PushError(f"no hub token to push {repo}; run `hf auth login`, or set HF_TOKEN")
    api = HfApi(token=token)
    local_files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    try:
        api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        remote = api.dataset_info(repo)
        others = sorted({file.rfilename for file in remote.siblings or []} - local_files - {".gitattributes"})
        if others:
            raise PushError(f"{repo} has files that are not in this export, such as {others[0]}; push to a new name")
        if private and not remote.private:
            raise PushError(f"{repo} is public; push to a new name, or set export.private=false")
        return api.upload_folder(
            repo_id=repo, repo_type="dataset", folder_path=folder, commit_message=f"Pairs in the format {folder.name}"
        ).commit_url
    except PushError:
        raise
    except (HTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split()).replace(token, "...")
        raise PushError(f"cannot push to {repo} ({type(error).__name__}: {reason})") from error
