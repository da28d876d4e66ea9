"""The columns of every table, and how Hugging Face `datasets` reads them."""

import json
from typing import Any

import pyarrow as pa

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
VERIFIED_CLAIMS = pa.list_(
    pa.struct(
        [
            ("claim", pa.string()),
            ("question", pa.string()),
            ("outcome", pa.string()),  # the labeler was "asked" the question, got the claim ("restated"), or nothing
            ("p_yes", pa.float32()),  # null for the outcome "unknown", as are p_no and verdict
            ("p_no", pa.float32()),
            ("verdict", pa.bool_()),
        ]
    )
)


def _schema(**columns: pa.DataType) -> pa.Schema:
    features = {"info": {"features": {name: _feature(kind) for name, kind in columns.items()}}}
    return pa.schema(columns, metadata={b"huggingface": json.dumps(features).encode()})


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """The description with which Hugging Face `datasets` reads a column."""
    if kind == IMAGE:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    return {"dtype": {"float": "float32", "double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}


SCHEMAS: dict[str, pa.Schema] = {
    "prompts": _schema(
        prompt_id=pa.string(),
        image=IMAGE,
        image_sha256=pa.string(),
        instruction=pa.string(),
        source=pa.string(),
        split=pa.string(),
        reference=pa.string(),  # JSON; null where the truth is unknown
    ),
    "responses": _schema(
        response_id=pa.string(),
        prompt_id=pa.string(),
        sample_index=pa.int32(),
        seed=pa.int64(),
        text=pa.string(),
        finish_reason=pa.string(),
        num_tokens=pa.int32(),
        temperature=pa.float32(),
        top_p=pa.float32(),
        policy=pa.string(),
        policy_revision=pa.string(),
        round=pa.int32(),
    ),
    "splits": _schema(  # written if a splitter, not the labeler, divides responses
        response_id=pa.string(),
        prompt_id=pa.string(),
        claims=pa.list_(pa.struct([(name, pa.string()) for name in ("claim", "question", "outcome", "reason")])),
        splitter=pa.string(),
        splitter_revision=pa.string(),
    ),
    "claims": _schema(
        claim_id=pa.string(),
        response_id=pa.string(),
        prompt_id=pa.string(),
        claim_index=pa.int32(),
        claim=pa.string(),
        question=pa.string(),
        outcome=pa.string(),  # "asked": its question was verified; "restated": the claim itself; "unknown": neither
        reason=pa.string(),  # why the question was not asked; empty where it was
        p_yes=pa.float32(),  # null for the outcome "unknown", as the next three
        p_no=pa.float32(),
        p_other=pa.float32(),
        verdict=pa.bool_(),  # accepted: p_yes > p_no
        labeler=pa.string(),
        labeler_revision=pa.string(),
    ),
    "scores": _schema(
        response_id=pa.string(),
        prompt_id=pa.string(),
        num_claims=pa.int32(),
        num_rejected=pa.int32(),
        num_restated=pa.int32(),
        num_unknown=pa.int32(),
        score=pa.float64(),  # of the claims with a verdict
        score_low=pa.float64(),  # if all unknown claims were rejected
        score_high=pa.float64(),  # if all unknown claims were accepted
        coverage=pa.float64(),  # share of the response's content words that its verified claims contain
        whole_response_score=pa.float64(),  # p_yes - p_no of one question about the whole response, or null
    ),
    "rewards": _schema(
        response_id=pa.string(),
        prompt_id=pa.string(),
        num_tokens=pa.int32(),  # including the end-of-sequence token
        log_prob=pa.float64(),  # of the whole answer under the policy
        reference_log_prob=pa.float64(),
        reward=pa.float64(),  # beta / num_tokens * (log_prob - reference_log_prob)
    ),
    "pairs": _schema(
        pair_id=pa.string(),
        prompt_id=pa.string(),
        images=pa.list_(IMAGE),
        prompt=MESSAGES,
        chosen=MESSAGES,
        rejected=MESSAGES,
        chosen_response_id=pa.string(),
        rejected_response_id=pa.string(),
        chosen_score=pa.float64(),
        rejected_score=pa.float64(),
        chosen_claims=VERIFIED_CLAIMS,
        rejected_claims=VERIFIED_CLAIMS,
        round=pa.int32(),
        split=pa.string(),
    ),
    "evaluations": _schema(
        which=pa.string(),  # "before" or "after"
        prompt_id=pa.string(),
        text=pa.string(),
        finish_reason=pa.string(),
        num_tokens=pa.int32(),
        split=pa.string(),
    ),
    "labeled_answers": _schema(  # what the labeler says of the answers in `evaluations`
        which=pa.string(),
        prompt_id=pa.string(),
        num_claims=pa.int32(),
        num_rejected=pa.int32(),
        num_unknown=pa.int32(),
    ),
    "short_answers": _schema(  # to questions whose answer is known
        which=pa.string(),
        question_id=pa.string(),
        image_id=pa.string(),
        kind=pa.string(),  # "": a question of a table
        question=pa.string(),
        expected=pa.list_(pa.string()),  # each of them is correct
        text=pa.string(),
        correct=pa.bool_(),
        finish_reason=pa.string(),
        num_tokens=pa.int32(),
    ),
    "answers": _schema(  # to a benchmark's questions, in benchmarks/<name>/before and /after of the run folder
        question_id=pa.string(),
        image_id=pa.string(),
        question=pa.string(),
        text=pa.string(),
        finish_reason=pa.string(),
        num_tokens=pa.int32(),
        model=pa.string(),
        model_revision=pa.string(),
    ),
    "ratings": _schema(  # in the folder of the answers that are rated
        question_id=pa.string(),
        run_index=pa.int32(),
        seed=pa.int64(),
        rating=pa.int32(),
        text=pa.string(),
        rater=pa.string(),
        rater_revision=pa.string(),
    ),
    "rewrites": _schema(  # its `image` and `caption` make it a training table
        caption_id=pa.string(),  # file and row of the raw caption
        image=IMAGE,
        raw_caption=pa.string(),
        question=pa.string(),
        caption=pa.string(),
        fluency=pa.float32(),  # mean log-probability of the caption's tokens under the rewriter
        repetition=pa.float32(),  # share of its four-word sequences that occur earlier in it
        invented=pa.float32(),  # share of its content words that the raw caption lacks
        rewriter=pa.string(),
        rewriter_revision=pa.string(),
    ),
    "audits": _schema(  # people's verdicts on a sample of `claims` and `pairs`, which audit.json describes
        sample=pa.string(),
        kind=pa.string(),  # "claim" or "pair"
        item_id=pa.string(),  # claim_id or pair_id
        answer=pa.string(),  # of a pair "first" or "second", in the blind order in which it was shown
        person=pa.string(),
        answered=pa.string(),  # UTC
        seconds=pa.float32(),
    ),
    "audited_claims": _schema(  # those that people agree on: a test set for labelers, which needs no run folder
        claim_id=pa.string(),
        prompt_id=pa.string(),
        image=IMAGE,
        instruction=pa.string(),
        claim=pa.string(),
        question=pa.string(),
        outcome=pa.string(),  # what the labeler got: the question ("asked"), or the claim ("restated")
        truth=pa.bool_(),  # what most of the people say
        people=pa.int32(),  # who have judged it, whatever they said
        agreeing=pa.int32(),  # of them, those who say `truth`
        stratum=pa.string(),
        weight=pa.float64(),  # claims of the run that this one stands for
        p_yes=pa.float32(),  # of the labeler of the run, as the rest
        p_no=pa.float32(),
        verdict=pa.bool_(),
        labeler=pa.string(),
        labeler_revision=pa.string(),
    ),
    "dropped": _schema(stage=pa.string(), row_id=pa.string(), reason=pa.string(), detail=pa.string()),
}

RLAIF_V = _schema(  # the columns of openbmb/RLAIF-V-Dataset, for exports
    ds_name=pa.string(),
    image=IMAGE,
    question=pa.string(),
    chosen=pa.string(),
    rejected=pa.string(),
    origin_dataset=pa.string(),
    origin_split=pa.string(),  # JSON
    idx=pa.string(),
    image_path=pa.string(),
)

# Not declared in the schemas: `datasets` ignores the features of a column that is declared non-nullable.
NULLABLE = {
    ("prompts", "reference"),
    *(("claims", name) for name in ("p_yes", "p_no", "p_other", "verdict")),  # of an unknown claim
    ("scores", "whole_response_score"),  # if the labeler could not take that request
    # not known of answers that were imported
    *(("responses", name) for name in ("seed", "num_tokens", "temperature", "top_p", "policy", "policy_revision")),
    *(("pairs", f"{side}_score") for side in ("chosen", "rejected")),
}

COMMANDS = {  # output of a run -> the command that writes it
    "prompts": "make generate",
    "responses": "make generate",
    "splits": "make feedback",
    "claims": "make feedback",
    "scores": "make feedback",
    "pairs": "make feedback",
    "policy": "make dpo",
    "rewards": "make best-of-n",
    "evaluations": "make evaluate",
    "labeled_answers": "make evaluate",
    "short_answers": "make evaluate",
    "answers": "make benchmark",
    "ratings": "make benchmark",
    "rewrites": "make rewrite-captions",
    "audits": "make audit",
    "audited_claims": "make export-audit",
    "dropped": "make generate",
}
