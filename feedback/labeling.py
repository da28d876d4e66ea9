"""Labels prompts: divide, conquer, combine. Rows of `responses` in; rows of `claims` and `scores`, and drops out.

A response is asked about only if it can end in a pair: one without text (`empty_response`), one that ends in saying the
same again and again (`repeats`) or one cut by `generation.max_tokens` (`response_truncated`) is put aside before the
labeler sees it, because neither a loop nor an unfinished sentence is a claim or an example to train on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from feedback.divide import Refusal, Split, coverage, divide
from feedback.pairs import Drop
from feedback.prompt_files import LabelerPrompts
from feedback.score import count_rejected, score, whole_response_score
from feedback.verify import Verdict, verify
from rlaif.config import FeedbackSection
from rlaif.inference.engine import Engine
from rlaif.storage.files import make_id
from rlaif.storage.run import Run
from rlaif.text import clean, is_degenerate

Row = dict[str, Any]
Verdicts = dict[tuple[str, str], Verdict]  # by image_sha256 and full request; one without an answer is not there


@dataclass(frozen=True)
class Prompt:
    """One (image, instruction) and its sampled responses, rows of the table `responses`."""

    prompt_id: str
    image: bytes
    image_sha256: str
    responses: Sequence[Row]


@dataclass
class Labels:
    """Rows for the tables."""

    claims: list[Row] = field(default_factory=list)
    scores: list[Row] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)


def record_drops(run: Run, drops: Iterable[Drop]) -> None:
    """Into `dropped`; before the rows of the same key are written, see Run.drop."""
    for drop in drops:
        run.drop(drop.row_id, drop.reason, drop.detail)


def split_responses(
    engine: Engine, responses: Iterable[Row], wording: LabelerPrompts, settings: FeedbackSection, seed: int, title: str
) -> tuple[dict[str, Split], list[Drop]]:
    """Claims by response_id; what has none, and claims said twice, are drops."""
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
        wording,
        title,
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
    """A model that judges, and divides unless another does, and the words in which it is asked."""

    engine: Engine
    wording: LabelerPrompts
    settings: FeedbackSection
    seed: int
    name: str
    revision: str

    def label(self, prompts: Sequence[Prompt], title: str, splits: Mapping[str, Split] | None = None) -> Labels:
        """Claims and scores of all responses of these prompts; each response ends in `scores` or in `drops`.

        splits: what another model has made of them, by response_id; a response without one is passed over.
        """
        labels = Labels()
        if splits is None:
            responses = (row for prompt in prompts for row in prompt.responses)
            splits, labels.drops = split_responses(
                self.engine, responses, self.wording, self.settings, self.seed, title
            )
        verdicts = self._conquer(prompts, splits, title)
        for prompt in prompts:
            for response in prompt.responses:
                if response["response_id"] in splits:
                    self._combine(prompt, response, splits[response["response_id"]], verdicts, labels)
        return labels

    def _conquer(self, prompts: Sequence[Prompt], splits: Mapping[str, Split], title: str) -> Verdicts:
        """Verdicts on all claims and on the responses as a whole."""
        requests = {
            (prompt.image_sha256, request)
            for prompt in prompts
            for response in prompt.responses
            if response["response_id"] in splits
            for request in self._questions(response, splits[response["response_id"]])
        }
        return verify(self.engine, requests, {prompt.image_sha256: prompt.image for prompt in prompts}, title)

    def _questions(self, response: Row, split: Split) -> list[str]:
        """One request a claim, in order, then the one about the whole response."""
        whole = self.wording.ask_whole(clean(response["text"]))
        return [*(self.wording.ask_verify(item.question) for item in split.claims), whole]

    def _combine(self, prompt: Prompt, response: Row, split: Split, verdicts: Verdicts, labels: Labels) -> None:
        questions = [(prompt.image_sha256, request) for request in self._questions(response, split)]
        if unanswered := [request for key, request in questions if (key, request) not in verdicts]:
            detail = f"{len(unanswered)} too long for the labeler, or refused by it, first {unanswered[0]!r}"
            labels.drops.append(Drop(response["response_id"], "question_unanswered", detail))
            return
        *answers, whole = (verdicts[question] for question in questions)
        ids = {"response_id": response["response_id"], "prompt_id": prompt.prompt_id}
        for index, (item, verdict) in enumerate(zip(split.claims, answers, strict=True)):
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
                "num_claims": len(answers),
                "num_rejected": count_rejected(answers),
                "score": score(answers, whole, self.settings.score),
                "coverage": coverage(response["text"], (item.claim for item in split.claims)),
                "whole_response_score": whole_response_score(whole),
            }
        )
