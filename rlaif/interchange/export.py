"""Pairs as a data set for other tools, with its card; to the hub by explicit wish only.

    make export RUN=runs/demo FORMAT=llama-factory
    python -m rlaif.interchange.export --config configs/demo.yaml --run runs/demo --set export.format=llama-factory

Reads `pairs` and writes runs/<name>/export/<format>: the files of `rlaif.interchange.formats`, and README.md, the card
of `rlaif.interchange.card`.
The files are written once, under another name until they are whole; pairs that the format cannot hold are dropped by
name. The card is written on every run, as figures may have come since, and a licence. `export.push=owner/name` also
uploads the folder, into a private data set unless told otherwise.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlaif.command import run_stage
from rlaif.config import Config
from rlaif.errors import ConfigError, InputError, PushError
from rlaif.interchange.card import length_figures, model_names, write_card
from rlaif.interchange.formats import SplitFiles, dataset_info, text_of, usable
from rlaif.storage.run import Run
from rlaif.storage.tables import count_rows, read_parts, read_rows
from rlaif.text import words


def export(config: Config, path: Path) -> Path:
    """Make the folder and its card, and push it where that is asked for; returns it. Errors: RlaifError."""
    section = config.export
    if section.push and section.license is None:
        raise ConfigError(
            f"export.push is {section.push}, but export.license is not set; say under which licence the data set goes "
            'out, for example SET="export.license=cc-by-4.0"'
        )
    run = Run(path, config, f"export-{section.format}")
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
    work = run.path / run.stage  # takes the place of `target` when it is whole
    for leftover in (work, target):
        shutil.rmtree(leftover, ignore_errors=True)
    work.mkdir(parents=True)
    lengths: dict[str, list[int]] = {"chosen": [], "rejected": []}
    with SplitFiles(work, kind, origin(run) if kind == "rlaif-v" else {}) as files:
        for part in read_parts(run, "pairs"):
            pairs = usable(part, kind, run.drop)
            for side, counts in lengths.items():
                counts += [len(words(text)) for text in text_of(pairs, side).to_pylist()]
            files.write(pairs)
    if not files.rows:
        raise InputError(f"none of the {count_rows(run, 'pairs'):,} pairs of {run.path} can be exported as {kind}")
    if kind == "llama-factory":
        info = dataset_info(re.sub(r"\W", "_", run.path.resolve().name), list(files.rows))
        (work / "dataset_info.json").write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
    target.parent.mkdir(exist_ok=True)
    os.replace(work, target)
    return {"pairs": files.rows, "words": {side: length_figures(counts) for side, counts in lengths.items()}}


def origin(run: Run) -> dict[str, str]:
    """The columns of RLAIF-V-Dataset that are the same for all pairs of a run; origin_split is JSON there too."""
    policy, labeler = model_names(run)
    source = next(read_rows(run, "prompts", ["source"]))["source"]
    return {
        "ds_name": run.path.resolve().name,
        "origin_dataset": source,
        "origin_split": json.dumps({"model": policy, "labeler": labeler}),
    }


def push(folder: Path, repo: str, private: bool) -> str:
    """Upload the folder to a hub data set, made if it is not there; returns where it went.

    Errors: PushError, in one line and without the token; also where the data set has files that are not of this
    folder, or is public although `private` was wanted.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HTTPError

    token = get_token()
    if token is None:
        raise PushError(f"no token to push {repo} with; run `hf auth login`, or set HF_TOKEN")
    api = HfApi(token=token)
    own = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    try:
        api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        there = api.dataset_info(repo)
        others = sorted({file.rfilename for file in there.siblings or []} - own - {".gitattributes"})
        if others:
            raise PushError(f"{repo} has files that are not of this export, such as {others[0]}; push to a new name")
        if private and not there.private:
            raise PushError(f"{repo} is public; push to a new name, or set export.private=false")
        return api.upload_folder(
            repo_id=repo, repo_type="dataset", folder_path=folder, commit_message=f"Pairs, laid out as {folder.name}"
        ).commit_url
    except PushError:
        raise
    except (HTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split()).replace(token, "...")
        raise PushError(f"cannot push to {repo} ({type(error).__name__}: {reason})") from error


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(Config, "rlaif.interchange.export", (__doc__ or "").splitlines()[0], export, argv)


if __name__ == "__main__":
    sys.exit(main())
