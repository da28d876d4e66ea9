"""The section `people` of metrics.json, from the audit of a run, and its table for the terminal.

| in metrics.json    | content                                                                                      |
|--------------------|----------------------------------------------------------------------------------------------|
| `people`           | the figures of evaluation/audit/figures.py, and `strata`: p(yes) as people see it            |
| `intervals.people` | their 95% intervals                                                                          |

Verdicts may be given while this reads them: what is on disk counts, and the next `make evaluate` has the rest.
"""

from pathlib import Path

from evaluation.audit.store import Audit, AuditError
from evaluation.statistics import Figures, Intervals
from rlaif.config import Config
from rlaif.report.figures import figures_list
from rlaif.storage.run import Run


def read_audit(path: Path) -> tuple[Audit | None, str]:
    """The audit of a run, None where nobody has answered or where its verdicts do not count; then with the reason.

    Errors: InputError: a file of it is damaged.
    """
    try:
        audit = Audit.read(path)
    except AuditError as error:
        return None, str(error)
    return (audit if audit and (audit.answers("claim") or audit.answers("pair")) else None), ""


def update_people(run: Run[Config], audit: Audit | None) -> tuple[Figures, Intervals] | None:
    """Write `people` into metrics.json, or take that of an earlier audit out; returns figures and intervals."""
    if audit is None:
        if run.metrics().get("people"):
            run.update_metrics(people=None, intervals={"people": None})
        return None
    figures, spread = audit.figures()
    run.update_metrics(people={**figures, "strata": audit.reliability()}, intervals={"people": spread})
    return figures, spread


def people_table(figures: Figures, spread: Intervals) -> str:
    """The figures with their intervals as text for the terminal."""
    return figures_list("people, whose verdicts on a sample are weighted to stand for the whole run", figures, spread)
