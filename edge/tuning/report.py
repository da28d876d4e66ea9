"""The tables of a search, in Markdown. Pure."""

from collections.abc import Sequence
from dataclasses import fields

from edge.settings import Settings
from edge.tuning.halving import Candidate, Outcome
from edge.tuning.process import Work
from edge.tuning.statistics import Comparison, Estimate, estimate

SHOWN = 10  # rows


def describe(settings: Settings) -> str:
    """The settings in one line; the default in one word."""
    if settings == Settings():
        return "default"
    return " ".join(f"{field.name}={getattr(settings, field.name)}" for field in fields(settings))


def trials_table(candidates: Sequence[Candidate], work: Work) -> str:
    """The best candidates, and all that failed with their reasons."""
    lines = ["| settings | measured | tokens/s |", "|---|---|---|"]
    running = [one for one in candidates if one.error is None]
    for one in running[:SHOWN]:
        speed = (work.prompt + work.answer) / one.score
        lines.append(f"| {describe(one.settings)} | {len(one.seconds)} times | {speed:.1f} |")
    if len(running) > SHOWN:
        lines.append(f"| {len(running) - SHOWN} more | | |")
    lines += [f"| {describe(one.settings)} | {one.error} | - |" for one in candidates if one.error is not None]
    return "\n".join(lines)


def final_table(comparison: Comparison, winner: Settings, work: Work) -> str:
    """Default and winner: tokens a second with 95% intervals, seconds of prompt and answer together."""
    lines = ["| settings | prompt, tokens/s | answer, tokens/s | both, s |", "|---|---|---|---|"]
    for name, outcomes in (("default", comparison.default), (f"found: {describe(winner)}", comparison.winner)):
        prompt, answer = speeds(outcomes, work)
        both = estimate([outcome.seconds[0] for outcome in outcomes])
        lines.append(f"| {name} | {prompt} | {answer} | {both} |")
    return "\n".join(lines)


def speeds(outcomes: Sequence[Outcome], work: Work) -> tuple[Estimate, Estimate]:
    """Tokens a second of prompt and answer. The first token of an answer comes with the prompt."""
    prompt = estimate([work.prompt / outcome.prompt_seconds[0] for outcome in outcomes])
    return prompt, estimate([(work.answer - 1) / outcome.answer_seconds[0] for outcome in outcomes])
