"""Label the responses to some prompts: divide, verify, score. Rows of `responses` in; `claims`, `scores`, drops out.

Only responses that could become part of a pair reach the labeler. Dropped before: a response without text
(`empty_response`), with a degenerate, repetitive end (`repeats`) or cut at `generation.max_tokens`
(`response_truncated`). Neither a loop nor an unfinished sentence is an example to train on.

A claim whose request the labeler cannot take, or refuses, is unknown too (`question_unanswered`). A response that has
only unknown claims is dropped (`all_claims_unknown`); in one that is scored, each unknown claim is a drop of its own.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from feedback.check.claim import Source
from feedback.divide import Claim, Refusal, Split, coverage, divide
from feedback.labeler_prompts import LabelerPrompts
from feedback.pair import Drop
from feedback.score import count_rejected, score, score_bounds, whole_response_score
from feedback.verify import Verdict, ask
from rlaif.config import FeedbackSection
from rlaif.inference.engine import Engine
from rlaif.inference.work.sharing import Once, SharedAnswers
from rlaif.storage.files import make_id
from rlaif.storage.run import Run
from rlaif.text import clean, is_degenerate

Row = dict[str, Any]


@dataclass(frozen=True)
class Prompt:
    """One (image, instruction) and the rows of `responses` that were sampled for it."""

    prompt_id: str
    instruction: str
    image: bytes
    image_sha256: str
    responses: Sequence[Row]


@dataclass
class Labels:
    """Rows of `claims` and `scores`, and drops."""

    claims: list[Row] = field(default_factory=list)
    scores: list[Row] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)


def record_drops(run: Run, drops: Iterable[Drop]) -> None:
    """Record drops in `dropped`. Call it before rows of the same key are written, see Run.drop."""
    for drop in drops:
        run.drop(drop.row_id, drop.reason, drop.detail)


async def split_responses(
    engine: Engine,
    responses: Iterable[tuple[str, Row]],
    prompts: LabelerPrompts,
    settings: FeedbackSection,
    seed: int,
) -> tuple[dict[str, Split], list[Drop]]:
    """Claims by response_id. Responses without claims, and duplicate claims, become drops.

    responses: instructions with rows of `responses`.
    """
    divider = Divider(SharedAnswers(engine), prompts, settings, seed)
    rows = list(responses)
    results = await asyncio.gather(*(divider.divide(instruction, row) for instruction, row in rows))
    splits = {row["response_id"]: split for (_, row), (split, _) in zip(rows, results, strict=True) if split}
    return splits, [drop for _, drops in results for drop in drops]


@dataclass(frozen=True)
class Divider:
    """Divides responses; equal ones once. Its engine answers equal requests once."""

    engine: SharedAnswers
    prompts: LabelerPrompts
    settings: FeedbackSection
    seed: int
    divided: Once[Split | Refusal] = field(default_factory=Once)

    async def divide(self, instruction: str, response: Row) -> tuple[Split | None, list[Drop]]:
        """The claims of a row of `responses`, and the drops: the response without claims, duplicate claims."""
        response_id, text = response["response_id"], clean(response["text"])
        if not text:
            return None, [Drop(response_id, "empty_response", f"{_length(response)}, no text")]
        if is_degenerate(text):
            return None, [Drop(response_id, "repeats", f"{_length(response)}, ends {text[-80:]!r}")]
        if response["finish_reason"] != "stop":
            detail = f"{_length(response)}, finish_reason {response['finish_reason']}"
            return None, [Drop(response_id, "response_truncated", detail)]
        source = Source(clean(instruction), text)
        result = await self.divided.get(
            source, lambda: divide(self.engine, source, self.prompts, self.settings, self.seed)
        )
        if isinstance(result, Refusal):
            return None, [Drop(response_id, result.reason, result.detail)]
        return result, [Drop(response_id, "duplicate_claim", item.claim) for item in result.duplicates]


def _length(response: Row) -> str:
    """The length of a response for people; the tokens of an imported one are not known."""
    tokens = response["num_tokens"]
    return f"{len(response['text']):,} characters" if tokens is None else f"{tokens} tokens"


@dataclass(frozen=True)
class Labeler:
    """The model that verifies claims (and divides responses, unless a splitter does), with its prompts and settings."""

    engine: Engine
    prompts: LabelerPrompts
    settings: FeedbackSection
    seed: int
    name: str
    revision: str

    async def label(self, prompts: Sequence[Prompt], splits: Mapping[str, Split] | None = None) -> Labels:
        """Claims and scores of all responses of these prompts; each response ends in `scores` or in `drops`.

        The claims of a response are verified as soon as it is divided, while others are still divided.

        splits: claims by response_id, if a splitter has divided the responses; responses without an entry are skipped.
        """
        engine = SharedAnswers(self.engine)
        divider = None if splits is not None else Divider(engine, self.prompts, self.settings, self.seed)

        async def label(prompt: Prompt, response: Row) -> Labels:
            if divider is not None:
                split, drops = await divider.divide(prompt.instruction, response)
            else:
                split, drops = (splits or {}).get(response["response_id"]), []
            return Labels(drops=drops) if split is None else await self._verify(engine, prompt, response, split, drops)

        parts = await asyncio.gather(*(label(prompt, row) for prompt in prompts for row in prompt.responses))
        return Labels(
            [row for part in parts for row in part.claims],
            [row for part in parts for row in part.scores],
            [drop for part in parts for drop in part.drops],
        )

    async def _verify(self, engine: Engine, prompt: Prompt, response: Row, split: Split, drops: list[Drop]) -> Labels:
        """Verify the claims of one response, and the response as a whole, and score it."""
        requests = self._requests(prompt, response, split)
        asked = {request: None for request in requests if request is not None}
        verdicts = await asyncio.gather(*(ask(engine, text, prompt.image, self.settings.answers) for text in asked))
        labels = Labels(drops=drops)
        self._score(prompt, response, split, requests, dict(zip(asked, verdicts, strict=True)), labels)
        return labels

    def _requests(self, prompt: Prompt, response: Row, split: Split) -> list[str | None]:
        """One request per claim, in order (None for an unknown one), then the request about the whole response."""
        whole = self.prompts.format_whole(clean(prompt.instruction), clean(response["text"]))
        return [*map(self._request, split.claims), whole]

    def _request(self, item: Claim) -> str | None:
        if item.outcome == "unknown":
            return None
        if item.outcome == "restated":
            return self.prompts.format_statement(item.claim)
        return self.prompts.format_verify(item.question)

    def _score(
        self,
        prompt: Prompt,
        response: Row,
        split: Split,
        requests: Sequence[str | None],
        verdicts: Mapping[str, Verdict | None],
        labels: Labels,
    ) -> None:
        """Append the claims and the score of one response, or the reason why it has none."""
        *found, whole = (verdicts[request] if request else None for request in requests)
        ids = {"response_id": response["response_id"], "prompt_id": prompt.prompt_id}
        rows = []
        for index, (item, verdict) in enumerate(zip(split.claims, found, strict=True)):
            if verdict is None and item.outcome != "unknown":
                item = replace(item, outcome="unknown", reason="question_unanswered")
            rows.append(
                {
                    "claim_id": make_id(response["response_id"], str(index)),
                    **ids,
                    "claim_index": index,
                    **asdict(item),
                    "p_yes": verdict and verdict.p_yes,
                    "p_no": verdict and verdict.p_no,
                    "p_other": verdict and verdict.p_other,
                    "verdict": verdict and verdict.accepted,
                    "labeler": self.name,
                    "labeler_revision": self.revision,
                }
            )
        outcomes = Counter(row["outcome"] for row in rows)
        verified = [row["claim"] for row in rows if row["outcome"] != "unknown"]
        known = [verdict for verdict in found if verdict]
        rule = self.settings.score
        if not known:
            reasons = Counter(row["reason"] for row in rows)
            counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
            reason = "question_unanswered" if [*reasons] == ["question_unanswered"] else "all_claims_unknown"
            detail = f"{counts}; first {rows[0]['claim']!r} | {rows[0]['question']!r}"
            labels.drops.append(Drop(response["response_id"], reason, detail))
        elif rule == "whole_response" and not whole:
            detail = "the request about the whole response is too long for the labeler, or refused by it"
            labels.drops.append(Drop(response["response_id"], "question_unanswered", detail))
        else:
            low, high = score_bounds(known, outcomes["unknown"], whole, rule)
            labels.claims += rows
            labels.drops += [
                Drop(row["claim_id"], row["reason"], f"{row['claim']!r} | {row['question']!r}")
                for row in rows
                if row["outcome"] == "unknown"
            ]
            labels.scores.append(
                {
                    **ids,
                    "num_claims": len(rows),
                    "num_rejected": count_rejected(known),
                    "num_restated": outcomes["restated"],
                    "num_unknown": outcomes["unknown"],
                    "score": score(known, whole, rule),
                    "score_low": low,
                    "score_high": high,
                    "coverage": coverage(response["text"], verified),
                    "whole_response_score": whole and whole_response_score(whole),
                }
            )
