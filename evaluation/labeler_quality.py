"""The labeler of a run compared with the truth: its verdicts, its splits, and the order of its pairs.

Whole-response scoring by the same labeler is the baseline for divide-and-conquer.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation.statistics import Counts, Figures, ratio
from evaluation.truth import TruthLookup, truth_of
from feedback.pair import Scored, build_pairs
from rlaif.storage.files import make_id
from rlaif.storage.join import join_by_prompt
from rlaif.storage.run import Run
from rlaif.storage.tables import read_metadata, read_parts
from rlaif.text import words

PAIR_COLUMNS = ("chosen_response_id", "rejected_response_id", "chosen", "rejected")
IdPair = tuple[str, str]  # (chosen_response_id, rejected_response_id)


@dataclass(frozen=True)
class PairRule:
    """How a run builds its pairs, as its feedback has recorded it; see the section `feedback` of the configuration."""

    seed: int
    pairs_per_prompt: int
    balance_length: bool


def recorded_pair_rule(run: Run) -> PairRule:
    """The rule behind the pairs of a run, whatever its configuration says now. Errors: InputError: no pairs."""
    settings = read_metadata(run, "pairs")["config"]
    rule = settings["feedback"]
    return PairRule(settings["seed"], rule["pairs_per_prompt"], rule["balance_length"])


def labeler_counts(run: Run, truth_of: TruthLookup = truth_of) -> list[Counts]:
    """What each prompt whose truth is known adds to the sums behind `labeler_figures`.

    Errors: InputError: a table is missing.
    """
    counted = []
    rule, surplus = recorded_pair_rule(run), 0
    for prompt, rows in join_by_prompt(
        read_parts(run, "prompts", ["prompt_id", "source", "reference"]),
        responses=read_parts(run, "responses", ["response_id", "prompt_id", "text"]),
        claims=read_parts(run, "claims", ["response_id", "prompt_id", "claim", "verdict"]),
        scores=read_parts(run, "scores", ["response_id", "prompt_id", "whole_response_score"]),
        pairs=read_parts(run, "pairs", ["prompt_id", *PAIR_COLUMNS]),
    ):
        truth = truth_of(prompt["source"], prompt["reference"])
        if truth is None or not rows["responses"]:
            continue
        counts: Counts = Counter()
        texts = {row["response_id"]: row["text"] for row in rows["responses"]}
        false_mentions = {key: truth.check_mentions(text).count(False) for key, text in texts.items()}
        claims: dict[str, list[str]] = defaultdict(list)
        for row in rows["claims"]:
            claims[row["response_id"]].append(row["claim"])
            if row["verdict"] is not None:
                counts.update(claim_counts(row["verdict"], truth.claim_is_true(row["claim"])))
        scored = {row["response_id"]: row["whole_response_score"] for row in rows["scores"]}
        scores = {key: value for key, value in scored.items() if value is not None}
        for key, text in texts.items():
            correct = key in scored and truth.split_is_correct(text, claims[key])
            counts.update(splits=1, splits_correct=int(correct))
        run_pairs = [(row["chosen_response_id"], row["rejected_response_id"]) for row in rows["pairs"]]
        baseline, surplus = whole_response_pairs(rule, prompt["prompt_id"], texts, scores, surplus)
        same_pairs = reorder_pairs(run_pairs, scores)
        for row, pair in zip(rows["pairs"], run_pairs, strict=True):
            texts_of = zip(pair, (row["chosen"], row["rejected"]), strict=True)  # they may be cut responses
            false = {key: truth.check_mentions(text[0]["content"]).count(False) for key, text in texts_of}
            counts.update(pair_counts(pair, false, "run"))
        for kind, pairs in {"baseline": baseline, "same": same_pairs}.items():
            for pair in pairs:
                counts.update(pair_counts(pair, false_mentions, kind))
        counted.append(counts)
    return counted


def labeler_figures(totals: Counts) -> Figures:
    """Claims, splits and pair orders of the sampled responses against the truth; None where no truth is known.

    Two baselines score whole responses: `whole_response_pair_agreement` is over the pairs that the same pair rule
    builds from those scores, `whole_response_same_pairs_agreement` over the pairs of the run in the order of those
    scores.
    """
    run, baseline, same = (pair_figures(totals, kind) for kind in ("run", "baseline", "same"))
    return {
        **claim_figures(totals),
        "split_accuracy": ratio(totals["splits_correct"], totals["splits"]),
        "responses": totals["splits"],
        "pair_agreement": run["agreement"],
        "pair_ties": run["ties"],
        "pairs": run["pairs"],
        "whole_response_pair_agreement": baseline["agreement"],
        "whole_response_pair_ties": baseline["ties"],
        "whole_response_pairs": baseline["pairs"],
        "whole_response_same_pairs_agreement": same["agreement"],
    }


def claim_counts(verdict: bool, truth: bool | None) -> Counts:
    """What one verified claim adds to the sums behind `claim_figures`; truth: see `Truth.claim_is_true`."""
    return Counter(
        claims=1,
        claims_true=int(truth is True),
        claims_false=int(truth is False),
        true_rejected=int(truth is True and not verdict),
        false_accepted=int(truth is False and verdict),
    )


def claim_figures(totals: Counts) -> Figures:
    """Accuracy of the labeler's verdicts on claims, from the sums of `claim_counts`; unknown claims have none.

    - claim_accuracy: verdicts equal to the truth / all claims; an unreadable claim (truth None) counts as wrong;
    - false_claims_accepted, true_claims_rejected: share of the false and of the true claims with a wrong verdict;
    - claims, claims_unreadable: counts.
    """
    readable = totals["claims_true"] + totals["claims_false"]
    return {
        "claim_accuracy": ratio(readable - totals["true_rejected"] - totals["false_accepted"], totals["claims"]),
        "false_claims_accepted": ratio(totals["false_accepted"], totals["claims_false"]),
        "true_claims_rejected": ratio(totals["true_rejected"], totals["claims_true"]),
        "claims": totals["claims"],
        "claims_unreadable": totals["claims"] - readable,
    }


def pair_counts(pair: IdPair, false_mentions: Mapping[str, int], kind: str) -> Counts:
    """What one pair adds to the sums behind `pair_figures`; false_mentions: by response id.

    kind: a name for the origin of the pair; each kind has its own sums.
    """
    difference = false_mentions[pair[0]] - false_mentions[pair[1]]
    return Counter({f"{kind} pairs": 1, f"{kind} agree": int(difference < 0), f"{kind} ties": int(difference == 0)})


def pair_figures(totals: Counts, kind: str) -> Figures:
    """How often the order of a pair agrees with the truth, from the sums of `pair_counts` of that kind.

    - agreement: pairs whose chosen response has strictly fewer false mentions than the rejected one / all pairs;
    - ties: pairs with equally many, which count as disagreement / all pairs;
    - pairs: pairs counted.
    """
    pairs = totals[f"{kind} pairs"]
    return {
        "agreement": ratio(totals[f"{kind} agree"], pairs),
        "ties": ratio(totals[f"{kind} ties"], pairs),
        "pairs": pairs,
    }


def reorder_pairs(pairs: Sequence[IdPair], scores: Mapping[str, float]) -> list[IdPair]:
    """The same pairs in the order of other scores, the higher first; pairs with missing or equal ones are skipped."""
    pairs = [pair for pair in pairs if scores.keys() >= set(pair)]
    ordered = [(first, second) if scores[first] > scores[second] else (second, first) for first, second in pairs]
    return [(chosen, rejected) for chosen, rejected in ordered if scores[chosen] != scores[rejected]]


def whole_response_pairs(
    rule: PairRule, prompt_id: str, texts: Mapping[str, str], scores: Mapping[str, float], surplus: int
) -> tuple[list[IdPair], int]:
    """The pairs that the run's pair rule builds from a prompt's whole-response scores, and the new surplus.

    surplus: words of chosen minus words of rejected responses over all pairs so far.
    """
    scored = [Scored(response_id, texts[response_id], score) for response_id, score in scores.items()]
    pairs, _ = build_pairs(
        prompt_id,
        scored,
        limit=rule.pairs_per_prompt,
        seed=int(make_id(str(rule.seed), prompt_id), 16) % 2**31,
        surplus=surplus if rule.balance_length else None,
    )
    surplus += sum(len(words(pair.chosen.text)) - len(words(pair.rejected.text)) for pair in pairs)
    return [(pair.chosen.response_id, pair.rejected.response_id) for pair in pairs], surplus
