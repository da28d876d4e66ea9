"""The section on people's verdicts: what it says, and that it is missing without an audit."""

import re
from pathlib import Path
from typing import Any

from rlaif.config import Config
from rlaif.report.page import chart_files, report
from rlaif.report.people import meters, notes, pair_sentence, people
from rlaif.storage.run import Run

FIGURES: dict[str, Any] = {
    "agreement": 0.93,
    "kappa": 0.812,
    "false_claims_accepted": 0.1,
    "true_claims_rejected": None,
    "calibration_error": 0.04,
    "covered": 1.0,
    "cannot_tell": 0.0,
    "not_of_its_response": 0.0,
    "judged": 1200,
    "people_kappa": None,
    "pair_agreement": 0.926,
    "pair_ties": 0.0,
    "pairs_judged": 100,
    "people": 2,
    "strata": [
        {"claims": 10, "mean_p_yes": 0.25, "judged": 4, "true_share": 0.5, "interval": [0.1, 0.9]},
        {"claims": 90, "mean_p_yes": 0.75, "judged": 6, "true_share": 1.0, "interval": [0.7, 1.0]},
    ],
}
INTERVALS = {"agreement": [0.88, 0.964], "kappa": [0.7, 0.9], "pair_agreement": [0.8849, 0.9651]}


def test_the_sentence_about_the_pairs() -> None:
    assert pair_sentence(FIGURES, INTERVALS) == "Of 100 pairs people would put about 93 in the same order (88 to 97)."
    told = pair_sentence(FIGURES | {"pair_ties": 0.041}, INTERVALS)
    assert told is not None and told.endswith("(88 to 97), and see no difference in about 4.")
    assert pair_sentence(FIGURES | {"pair_agreement": None}, INTERVALS) is None


def test_figures_that_are_known_are_shown() -> None:
    shown = meters(FIGURES, INTERVALS)
    assert [row[1:3] for row in shown] == [("93.0%", "[88.0, 96.4]"), ("0.81", "[0.70, 0.90]"), ("4.0%", "")]
    assert shown[0][3] == "10.0% of false ones accepted"


def test_what_limits_the_figures_is_said() -> None:
    assert notes(FIGURES) == []
    covered, unclear, foreign = notes(FIGURES | {"covered": 0.95, "cannot_tell": 0.06, "not_of_its_response": 0.01})
    assert covered.startswith("They stand for 95.0% of the claims")
    assert unclear.startswith("Of 6.0% of the claims people cannot tell")
    assert foreign.startswith("1.0% of the claims are not in their response")


def test_the_chart_has_a_point_and_an_interval_for_each_stratum() -> None:
    section = people({"people": FIGURES, "intervals": {"people": INTERVALS}})
    assert section is not None
    svg = section["chart"]["svg"]
    assert re.findall(r"<title>people, [^<]*: ([0-9.]+)</title>", svg) == ["0.5", "1"]
    assert svg.count('class="interval tone-chosen"') == 2


def test_the_chart_is_a_file_too(tmp_path: Path) -> None:
    config = Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}})
    Run(tmp_path, config, "test").update_metrics(people=FIGURES, intervals={"people": INTERVALS})
    (file,) = chart_files(config, tmp_path).iterdir()
    assert file.name == "share-of-true-claims-by-p-yes.png"


def test_people_may_have_judged_pairs_only(tmp_path: Path) -> None:
    config = Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}})
    none = dict.fromkeys(("agreement", "kappa", "false_claims_accepted", "calibration_error", "cannot_tell"))
    figures = FIGURES | none | {"not_of_its_response": None, "covered": 0.0, "judged": 0, "strata": []}
    intervals = {**dict.fromkeys(none), "pair_agreement": [0.88, 0.97]}
    Run(tmp_path, config, "test").update_metrics(people=figures, intervals={"people": intervals})
    page = report(config, tmp_path).read_text()
    assert "2 people have judged 0 claims and 100 pairs" in page and "Of 100 pairs people would put about 93" in page
    assert "Verdicts that people share" not in page and "Share of true claims" not in page


def test_the_page_has_the_section_only_with_an_audit(tmp_path: Path) -> None:
    config = Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}})
    for audited in (None, FIGURES):
        Run(tmp_path, config, "test").update_metrics(people=audited, intervals={"people": audited and INTERVALS})
        page = report(config, tmp_path).read_text()
        assert ("<h2>People</h2>" in page) == bool(audited)
    assert "2 people have judged 1,200 claims and 100 pairs" in page
    assert "<b>Of 100 pairs people would put about 93 in the same order (88 to 97).</b>" in page


def test_where_no_truth_is_known_people_are_named(tmp_path: Path) -> None:
    """As `make evaluate` leaves a run of photographs before `make dpo`."""
    config = Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}})
    run = Run(tmp_path, config, "test")
    run.update_metrics(labeler={"claim_accuracy": None, "claims": 0}, intervals={"labeler": {}})
    page = report(config, tmp_path).read_text()
    assert f"only people can say how right it is: <code>make audit RUN={tmp_path}</code> asks them" in page
    assert "before and after alignment will appear here after <code>make dpo evaluate</code>" in page
    run.update_metrics(people=FIGURES, intervals={"people": INTERVALS})
    page = report(config, tmp_path).read_text()
    assert "only people can say how right it is: see below." in page and "Agreement of the labeler with" not in page
