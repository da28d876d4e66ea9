"""The section of the report on people's verdicts: the labeler as they see it, and what that means for the pairs."""

from typing import Any

from rlaif.report.charts import Line, line_chart
from rlaif.report.figures import format_figure, format_interval

GRADES = (("false_claims_accepted", "false ones accepted"), ("true_claims_rejected", "true ones rejected"))
Figures = dict[str, Any]


def people(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """Figures, a chart of p(yes) and a sentence about the pairs; None without an audit."""
    figures = metrics.get("people")
    if not figures:
        return None
    intervals = metrics["intervals"]["people"]
    return {
        "people": figures["people"],
        "judged": figures["judged"],
        "meters": meters(figures, intervals),
        "notes": notes(figures),
        "pairs": pair_sentence(figures, intervals),
        "pairs_judged": figures["pairs_judged"],
        "chart": reliability_chart(figures["strata"]) if figures["strata"] else None,
    }


def meters(figures: Figures, intervals: Figures) -> list[tuple[str, str, str, str]]:
    """(title, value, interval, detail) of each figure that is known."""
    wrong = "; ".join(
        f"{format_figure(name, figures[name])} of {kind}" for name, kind in GRADES if figures[name] is not None
    )
    titles = {
        "agreement": ("Verdicts that people share", wrong),
        "kappa": ("Cohen's kappa of the labeler and people", "agreement beyond chance: 0 is none, 1 is full"),
        "people_kappa": ("Cohen's kappa of people with one another", "over the claims that two of them have judged"),
        "calibration_error": ("Distance of p(yes) from people", "mean over the strata; a small audit overstates it"),
    }
    return [
        (title, format_figure(name, figures[name]), format_interval(name, intervals.get(name)), detail)
        for name, (title, detail) in titles.items()
        if figures[name] is not None
    ]


def notes(figures: Figures) -> list[str]:
    """What limits the figures, if anything does."""
    found = []
    if figures["covered"] is not None and figures["covered"] < 1:
        found.append(
            f"They stand for {format_figure('covered', figures['covered'])} of the claims: of the others none has been "
            "judged true or false yet."
        )
    if figures["cannot_tell"]:
        share = format_figure("cannot_tell", figures["cannot_tell"])
        found.append(f"Of {share} of the claims people cannot tell whether they are true, or are divided.")
    if figures["not_of_its_response"]:
        share = format_figure("not_of_its_response", figures["not_of_its_response"])
        found.append(f"{share} of the claims are not in their response, people say.")
    return found


def pair_sentence(figures: Figures, intervals: Figures) -> str | None:
    """What people's verdicts mean for the pairs, in whole pairs of 100; None where nobody has judged one."""
    same, equal = figures["pair_agreement"], figures["pair_ties"]
    if same is None:
        return None
    low, high = (round(100 * bound) for bound in intervals["pair_agreement"])
    sentence = f"Of 100 pairs people would put about {round(100 * same)} in the same order ({low} to {high})"
    if equal:
        sentence += f", and see no difference in about {round(100 * equal)}"
    return sentence + "."


def reliability_chart(strata: list[dict[str, Any]]) -> dict[str, Any]:
    """The share of true claims by the mean p(yes) of a stratum, beside the diagonal of a calibrated labeler."""
    shares = Line(
        "people",
        "chosen",
        [(row["mean_p_yes"], row["true_share"]) for row in strata],
        [(row["mean_p_yes"], *row["interval"]) for row in strata],
    )
    diagonal = Line("p(yes) as it should be", "before", [(0.0, 0.0), (1.0, 1.0)])
    lines = [diagonal, shares]  # the shares are drawn over it
    return {
        "title": "Share of true claims, by p(yes)",
        "lines": lines,
        "svg": line_chart(lines, x_label="mean p(yes) of a stratum", radius=4),
    }
