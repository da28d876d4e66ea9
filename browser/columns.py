"""What can be filtered and sorted: the columns of each view, and the queries that fill their indexes.

An index has the numbers and short texts of a view, without pictures, and is held in memory. Long texts and claims stay
in the parquet files and are read only for a filter that names them.
"""

from browser.query import TEXT, Column, Place, View

_LINES = "array_to_string(list_transform({0}, lambda message: message.content), chr(10))"
_BOTH = "list_concat(coalesce(chosen_claims, []), coalesce(rejected_claims, []))"
CHOSEN, REJECTED, INSTRUCTION = (_LINES.format(name) for name in ("chosen", "rejected", "prompt"))


def _each(values: str, item: str) -> tuple[str, str]:
    """A test of each item of a list; it is faster than one of their table, and on two lists than on their sum."""
    return f"list_bool_or(list_transform({values}, lambda item: {{test}}))", item


def _messages(*columns: str) -> tuple[tuple[str, str], ...]:
    return tuple(_each(column, "item.content") for column in columns)


def _claims(field: str) -> tuple[tuple[str, str], ...]:
    return tuple(_each(f"{side}_claims", f"item.{field}") for side in ("chosen", "rejected"))


def _of_pair(*tests: tuple[str, str]) -> tuple[Place, ...]:
    return (Place("run.pairs", "pair_id", tests),)


def _of_prompt(table: str, value: str) -> Place:
    return Place(table, "prompt_id", (("{test}", value),))


def _verdicts(side: str, verdict: str) -> str:
    return f"len(list_filter({side}_claims, lambda claim: claim.verdict IS {verdict}))"


PAIRS = View(
    "pairs",
    "run.pairs_index",
    "pair_id",
    'margin>=2 claim~"red car" street',
    (
        Column("margin", "number", "score of the chosen answer minus that of the rejected one"),
        Column("weakest", "number", "the smallest |p(yes) - p(no)| among the verdicts of both answers, 0 to 1"),
        Column("length_difference", "number", "characters of the chosen answer minus those of the rejected one"),
        Column("chosen_score", "number", "score of the chosen answer"),
        Column("rejected_score", "number", "score of the rejected answer"),
        Column("chosen_length", "number", "characters of the chosen answer"),
        Column("rejected_length", "number", "characters of the rejected answer"),
        Column("chosen_claims", "number", "claims of the chosen answer"),
        Column("rejected_claims", "number", "claims of the rejected answer"),
        Column("chosen_false", "number", "claims of the chosen answer that the labeler rejects"),
        Column("rejected_false", "number", "claims of the rejected answer that the labeler rejects"),
        Column("unknown", "number", "claims of both answers without a verdict"),
        Column("round", "number", "round of alignment"),
        Column("split", "text", "train, validation or test"),
        Column("pair_id", "text", "id of the pair"),
        Column("prompt_id", "text", "id of the prompt"),
        Column("p_yes", "number", "p(yes) of a claim of either answer", _of_pair(*_claims("p_yes"))),
        Column("claim", "text", "a claim of either answer", _of_pair(*_claims("claim"))),
        Column("question", "text", "the question of a claim", _of_pair(*_claims("question"))),
        Column("outcome", "text", "how it was verified: asked, restated or unknown", _of_pair(*_claims("outcome"))),
        Column("chosen", "text", "the chosen answer", _of_pair(*_messages("chosen"))),
        Column("rejected", "text", "the rejected answer", _of_pair(*_messages("rejected"))),
        Column("instruction", "text", "the instruction", _of_pair(*_messages("prompt"))),
        Column(
            TEXT,
            "text",
            "instruction, both answers and all claims; the column of a word alone",
            _of_pair(*_messages("prompt", "chosen", "rejected"), *_claims("claim")),
        ),
    ),
    (
        ("in table order", "", ""),
        ("weakest verdicts", "weakest<0.2", "weakest"),
        ("smallest margins", "", "margin"),
        ("largest margins", "", "-margin"),
        ("false claims in the chosen answer", "chosen_false>0", "-chosen_false"),
        ("chosen much longer", "", "-length_difference"),
        ("chosen much shorter", "", "length_difference"),
        ("unknown claims", "unknown>0", "-unknown"),
    ),
)

PROMPTS = View(
    "prompts",
    "run.prompts_index",
    "prompt_id",
    'pairs=0 responses>0 response~"red car"',
    (
        Column("pairs", "number", "pairs of the prompt"),
        Column("reason", "text", "why it has no pair"),
        Column("responses", "number", "responses that were sampled"),
        Column("scored", "number", "responses with a score"),
        Column("best", "number", "highest score of its responses"),
        Column("worst", "number", "lowest score of its responses"),
        Column("mean", "number", "mean score of its responses"),
        Column("split", "text", "train, validation or test"),
        Column("source", "text", "where the prompt comes from"),
        Column("instruction", "text", "the instruction"),
        Column("prompt_id", "text", "id of the prompt"),
        Column("response", "text", "a response", (_of_prompt("run.responses", "text"),)),
        Column("claim", "text", "a claim of a response", (_of_prompt("run.claims", "claim"),)),
        Column("p_yes", "number", "p(yes) of a claim", (_of_prompt("run.claims", "p_yes"),)),
        Column("score", "number", "score of a response", (_of_prompt("run.scores", "score"),)),
        Column(
            TEXT,
            "text",
            "instruction and responses; the column of a word alone",
            (_of_prompt("run.prompts_index", "instruction"), _of_prompt("run.responses", "text")),
        ),
    ),
    (
        ("in table order", "", ""),
        ("without pairs", "pairs=0 responses>0", ""),
        ("all scores equal", "reason=all_scores_equal", ""),
        ("worst on average", "", "mean"),
        ("best on average", "", "-mean"),
    ),
)

DROPPED = View(
    "dropped rows",
    "run.dropped_index",
    "position",
    "stage=feedback reason~claim",
    (
        Column("stage", "text", "the stage that dropped the row"),
        Column("reason", "text", "why"),
        Column("detail", "text", "what exactly"),
        Column("row_id", "text", "id or name of the row"),
        Column("prompt_id", "text", "id of its prompt, where the run has it"),
        Column(
            TEXT,
            "text",
            "reason, detail and row_id; the column of a word alone",
            (
                Place(
                    "run.dropped_index",
                    "position",
                    (("{test}", "reason"), ("{test}", "detail"), ("{test}", "row_id")),
                ),
            ),
        ),
    ),
)

COMPARED = View(
    "prompts of both runs",
    "compared",
    "prompt_id",
    "change<0 other_pairs>0",
    (
        Column("change", "number", "mean score in the other run minus that in this one"),
        Column("mean", "number", "mean score of its responses in this run"),
        Column("other_mean", "number", "mean score of its responses in the other run"),
        Column("pairs", "number", "pairs in this run"),
        Column("other_pairs", "number", "pairs in the other run"),
        Column("reason", "text", "why it has no pair in this run"),
        Column("other_reason", "text", "why it has no pair in the other run"),
        Column("split", "text", "split in this run"),
        Column("instruction", "text", "the instruction"),
        Column("prompt_id", "text", "id of the prompt"),
        Column(
            TEXT,
            "text",
            "the instruction; the column of a word alone",
            (_of_prompt("compared", "instruction"),),
        ),
    ),
    (
        ("in table order", "", ""),
        ("fell most", "", "change"),
        ("rose most", "", "-change"),
        ("pairs here only", "pairs>0 other_pairs=0", ""),
        ("pairs there only", "pairs=0 other_pairs>0", ""),
    ),
)

# Queries of the indexes; {0} is the schema of a run, {1} whether its pairs are written
INDEXES = {
    "pairs_index": f"""
        SELECT row_number() OVER () AS position, pair_id, prompt_id, split, round, chosen_score, rejected_score,
            chosen_score - rejected_score AS margin,
            length({CHOSEN}) AS chosen_length, length({REJECTED}) AS rejected_length,
            chosen_length - rejected_length AS length_difference,
            len(pairs.chosen_claims) AS chosen_claims, len(pairs.rejected_claims) AS rejected_claims,
            {_verdicts("chosen", "FALSE")} AS chosen_false, {_verdicts("rejected", "FALSE")} AS rejected_false,
            {_verdicts("chosen", "NULL")} + {_verdicts("rejected", "NULL")} AS unknown,
            list_min(list_transform({_BOTH}, lambda claim: abs(claim.p_yes - claim.p_no))) AS weakest
        FROM {{0}}.pairs AS pairs""",
    "dropped_index": """
        WITH numbered AS (SELECT row_number() OVER () AS position, * FROM {0}.dropped)
        SELECT numbered.*, coalesce(responses.response_id, claims.response_id) AS response_id,
            coalesce(prompts.prompt_id, responses.prompt_id, claims.prompt_id, pairs.prompt_id) AS prompt_id
        FROM numbered
        LEFT JOIN {0}.prompts AS prompts ON prompts.prompt_id = row_id
        LEFT JOIN {0}.responses AS responses ON responses.response_id = row_id
        LEFT JOIN {0}.claims AS claims ON claim_id = row_id
        LEFT JOIN {0}.pairs AS pairs ON pair_id = row_id
        ORDER BY position""",
    "prompts_index": """
        WITH numbered AS (
            SELECT row_number() OVER () AS position, prompt_id, instruction, source, split FROM {0}.prompts),
        answers AS (SELECT prompt_id, count(*) AS responses FROM {0}.responses GROUP BY ALL),
        rated AS (
            SELECT prompt_id, count(*) AS scored, max(score) AS best, min(score) AS worst, avg(score) AS mean
            FROM {0}.scores GROUP BY ALL),
        paired AS (SELECT prompt_id, count(*) AS pairs FROM {0}.pairs GROUP BY ALL),
        reasons AS (
            SELECT row_id AS prompt_id, string_agg(DISTINCT reason, ', ' ORDER BY reason) AS reason FROM {0}.dropped
            WHERE stage IN ('import', 'generation', 'feedback') AND reason <> 'duplicate_prompt' GROUP BY ALL)
        SELECT position, numbered.prompt_id, instruction, source, split,
            coalesce(responses, 0) AS responses, coalesce(scored, 0) AS scored, best, worst, mean,
            coalesce(pairs, 0) AS pairs,
            CASE WHEN coalesce(pairs, 0) > 0 THEN NULL
                 WHEN reasons.reason IS NOT NULL THEN reasons.reason
                 WHEN coalesce(responses, 0) = 0 THEN 'no_responses'
                 WHEN NOT {1} THEN 'not_yet_paired'
                 ELSE 'no_scored_response' END AS reason
        FROM numbered
        LEFT JOIN answers USING (prompt_id) LEFT JOIN rated USING (prompt_id) LEFT JOIN paired USING (prompt_id)
        LEFT JOIN reasons USING (prompt_id)
        ORDER BY position""",
}
COMPARED_INDEX = """
    SELECT ours.position, ours.prompt_id, ours.instruction, ours.split, ours.mean, ours.pairs,
        ours.reason, theirs.mean AS other_mean, theirs.pairs AS other_pairs, theirs.reason AS other_reason,
        theirs.mean - ours.mean AS change
    FROM run.prompts_index AS ours JOIN other.prompts_index AS theirs USING (prompt_id) ORDER BY position"""
