"""Imports preference pairs, or responses, that others made, into a run.

    make import DATA=FILE_OR_HUB_ID RUN=runs/mine
    python -m rlaif.interchange.importer --config FILE --run runs/mine --set data.source=import data.path=FILE_OR_HUB_ID

The layout of the rows is recognized by their columns: see `rlaif.interchange.importer.layouts`. Images pass the checks
that `make generate` applies, and their hash decides their split. Writes `prompts` and

    pairs      of a layout with chosen and rejected answers, for `make dpo`: without scores and claims
    responses  of layout `responses`, for `make feedback`: the policy is named as given; seed, tokens and sampling
               parameters are null
    dropped    the other rows, with their reason

and layout, origin and license to metrics.json, section `import`. An import that was stopped reads its source again and
writes what is missing.

| reason                                   | the row                                                               |
|------------------------------------------|-----------------------------------------------------------------------|
| no_image, missing_image, several_images  | has no image, one that is not there, or more than one                 |
| video                                    | has a video                                                           |
| several_turns                            | is a conversation of several turns, or has a system message           |
| empty_response, response_too_long        | has an answer without text, or longer than `data.max_response_chars`  |
| equal_text                               | has equal answers, or a response that its prompt already has          |
| duplicate_pair                           | repeats a pair                                                        |
| unfit_row                                | has a cell of another kind than its layout                            |
"""

from dataclasses import asdict
from itertools import islice
from pathlib import Path

from rlaif.config import Config, DataSection
from rlaif.errors import InputError
from rlaif.interchange.importer.answers import AnswerFile
from rlaif.interchange.importer.layouts import Layout, recognize
from rlaif.interchange.importer.origin import Origin
from rlaif.interchange.importer.prompts import wanted_columns, write_prompts
from rlaif.interchange.importer.source import find_meta, find_origin, open_tables
from rlaif.interchange.importer.tables import write_pairs, write_responses
from rlaif.storage.files import files_digest
from rlaif.storage.run import Run
from rlaif.storage.tables import count_rows

ROWS_FOR_LAYOUT = 100  # of a table, by which its layout is recognized


def import_data(config: Config, path: Path) -> None:
    """Run the stage. Errors: RlaifError for anything that the user can fix."""
    data = config.data
    origin = find_origin(data)
    layout = find_layout(data, origin)
    table = "pairs" if layout.has_pairs else "responses"
    run = Run(path, config, "import")
    local = Path(data.path or "")
    settings = {
        "round": config.round,
        "data": data.model_dump(),
        "layout": layout.name,
        "origin": asdict(origin),
        "files_digest": files_digest(local) if local.exists() else None,
    }
    if not run.begin(["prompts", table], settings, inputs=[]):
        return
    run.announce(
        f"imports {table} from {data.path}, layout {layout.name}",
        f"license of the source: {origin.license}",
    )
    with AnswerFile(path / run.stage / "answers.arrow") as answers:
        write_prompts(run, origin, layout, answers)
        figures = write_pairs(run, answers) if layout.has_pairs else write_responses(run, answers)
    run.update_metrics(**{"import": {"table": table, "layout": layout.name, **asdict(origin), **figures}})
    stage = "dpo" if layout.has_pairs else "feedback"
    run.finish(
        {"prompts": count_rows(run, "prompts"), table: count_rows(run, table)},
        f"make {stage} RUN={path}, with the same CONFIG",
    )


def find_layout(data: DataSection, origin: Origin) -> Layout:
    """The layout of all tables of the data. Errors: InputError if it is unknown, or differs between tables."""
    layouts: dict[str, Layout] = {}
    first = ""
    named_by_meta = find_meta(Path(data.path or "")) is not None  # then some of the tables may be text only
    forced = data.layout or ("mmpr" if named_by_meta else None)
    for table in open_tables(data, origin):
        examples = (record.values for record in islice(table.rows(wanted_columns(table)), ROWS_FOR_LAYOUT))
        layout = recognize(table.title, examples, table.columns, forced, text_only=named_by_meta)
        layouts[layout.name] = layout
        first = first or table.title
        if len(layouts) > 1:
            raise InputError(
                f"{table.title} has the layout {layout.name}, but {first} has {next(iter(layouts))}; "
                "import files of one layout at a time"
            )
    return layouts.popitem()[1]
