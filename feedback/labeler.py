"""Label the responses to some prompts: divide, verify, score. Rows of `responses` in; `claims`, `scores`, drops out.

Only responses that could become part of a pair reach the labeler. Dropped before: a response without text
(`empty_response`), with a degenerate, repetitive end (`repeats`) or cut at `generation.max_tokens`
(`response_truncated`). Neither a loop nor an unfinished sentence is an example to train on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from feedback.divide import Refusal, Split, coverage, divide
from feedback.labeler_prompts import LabelerPrompts
from feedback.pair import Drop
from feedback.score import count_rejected, score, whole_response_score
from feedback.verify import Verdict, verify
from rlaif.config import FeedbackSection
from rlaif.inference.engine import Engine
from rlaif.storage.files import make_id
from rlaif.storage.run import Run
from rlaif.text import clean, is_degenerate

Row = dict[str, Any]
Verdicts = dict[tuple[str, str], Verdict]  # by (image_sha256, text of the request); unanswered requests are missing


@dataclass(frozen=True)
class Prompt:
    """One (image, instruction) and the rows of `responses` that were sampled for it."""

    prompt_id: str
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


def split_responses(
    engine: Engine, responses: Iterable[Row], prompts: LabelerPrompts, settings: FeedbackSection, seed: int
) -> tuple[dict[str, Split], list[Drop]]:
    """Claims by response_id. Responses without claims, and duplicate claims, become drops."""
    drops: list[Drop] = []
    texts: dict[str, str] = {}
    for response in responses:
        response_id, text = response["response_id"], clean(response["text"])
        if not text:
            drops.append(Drop(response_id, "empty_response", f"{response['num_tokens']} tokens, no text"))
        elif is_degenerate(text):
            drops.append(Drop(response_id, "repeats", f"{response['num_tokens']} tokens, ends {text[-80:]!r}"))
        elif response["finish_reason"] != "stop":
            detail = f"{response['num_tokens']} tokens, finish_reason {response['finish_reason']}"
            drops.append(Drop(response_id, "response_truncated", detail))
        else:
            texts[response_id] = text
    results = divide(
        engine,
        texts.values(),
        prompts,
        max_tokens=settings.max_claim_tokens,
        max_retries=settings.max_retries,
        seed=seed,
    )
    splits: dict[str, Split] = {}
    for response_id, text in texts.items():
        result = results[text]
        if isinstance(result, Refusal):
            drops.append(Drop(response_id, result.reason, result.detail))
            continue
        splits[response_id] = result
        drops.extend(Drop(response_id, "duplicate_claim", item.claim) for item in result.duplicates)
    return splits, drops


@dataclass(frozen=True)
class Labeler:
    """The model that verifies claims (and divides responses, unless a splitter does), with its prompts and settings."""

    engine: Engine
    prompts: LabelerPrompts
    settings: FeedbackSection
    seed: int
    name: str
    revision: str

    def label(self, prompts: Sequence[Prompt], splits: Mapping[str, Split] | None = None) -> Labels:
        """Claims and scores of all responses of these prompts; each response ends in `scores` or in `drops`.

        splits: claims by response_id, if a splitter has divided the responses; responses without an entry are skipped.
        """
        labels = Labels()
        if splits is None:
            responses = (row for prompt in prompts for row in prompt.responses)
            splits, labels.drops = split_responses(self.engine, responses, self.prompts, self.settings, self.seed)
        verdicts = self._verify(prompts, splits)
        for prompt in prompts:
            for response in prompt.responses:
                if response["response_id"] in splits:
                    self._score(prompt, response, splits[response["response_id"]], verdicts, labels)
        return labels

    def _verify(self, prompts: Sequence[Prompt], splits: Mapping[str, Split]) -> Verdicts:
        """Verdicts on all claims, and on each response as a whole."""
        requests = {
            (prompt.image_sha256, request)
            for prompt in prompts
            for response in prompt.responses
            if response["response_id"] in splits
            for request in self._requests(response, splits[response["response_id"]])
        }
        images = {prompt.image_sha256: prompt.image for prompt in prompts}
        return verify(self.engine, requests, images, self.settings.answers)

    def _requests(self, response: Row, split: Split) -> list[str]:
        """One request per claim, in order, then the request about the whole response."""
        whole = self.prompts.format_whole(clean(response["text"]))
        return [*(self.prompts.format_verify(item.question) for item in split.claims), whole]

    def _score(self, prompt: Prompt, response: Row, split: Split, verdicts: Verdicts, labels: Labels) -> None:
        """Append the claims and the score of one response, or the reason why it has none."""
        keys = [(prompt.image_sha256, request) for request in self._requests(response, split)]
        if unanswered := [request for image, request in keys if (image, request) not in verdicts]:
            detail = (
                f"{len(unanswered)} too long for the labeler with the image (see engine.max_model_len and "
                f"labeler.max_pixels), or refused by it, first {unanswered[0]!r}"
            )
            labels.drops.append(Drop(response["response_id"], "question_unanswered", detail))
            return
        *claim_verdicts, whole = (verdicts[key] for key in keys)
        ids = {"response_id": response["response_id"], "prompt_id": prompt.prompt_id}
        for index, (item, verdict) in enumerate(zip(split.claims, claim_verdicts, strict=True)):
            labels.claims.append(
                {
                    "claim_id": make_id(response["response_id"], str(index)),
                    **ids,
                    "claim_index": index,
                    "claim": item.claim,
                    "question": item.question,
                    "p_yes": verdict.p_yes,
                    "p_no": verdict.p_no,
                    "p_other": verdict.p_other,
                    "verdict": verdict.accepted,
                    "labeler": self.name,
                    "labeler_revision": self.revision,
                }
            )
        labels.scores.append(
            {
                **ids,
                "num_claims": len(claim_verdicts),
                "num_rejected": count_rejected(claim_verdicts),
                "score": score(claim_verdicts, whole, self.settings.score),
                "coverage": coverage(response["text"], (item.claim for item in split.claims)),
                "whole_response_score": whole_response_score(whole),
            }
        )
