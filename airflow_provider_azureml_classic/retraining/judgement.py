"""Whether a new model takes the place of the live one, of what several sets of rows say of both.

Rule: rows that the new file brought cannot tell a ruined file from a good one, since both models are measured on them.
So what the file is beside those before counts as well, and rows that the live model was measured on, where a caller
has any; where they contradict, the world may have changed, or the file may be wrong. Data alone cannot tell these two
apart: the judgement is then *undecided*, and says both figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from airflow_provider_azureml_classic.retraining.data_contract import MOVED, UNLIKE
from airflow_provider_azureml_classic.retraining.intervals import FEW_ROWS, Difference, Verdict

#: What to do with a model of which the rows do not say whether it is worse.
ON_UNDECIDED = ("pass", "keep", "fail")


class Decision(str, Enum):
    """What becomes of a new model."""

    PASS = "pass"  # noqa: S105 - no password
    KEEP = "kept"
    FAIL = "failed"


@dataclass(frozen=True)
class Evidence:
    """What one set of rows says.

    :param source: where the rows come from, as a sentence goes on after "on".
    :param differences: of the two models, by metric.
    :param earlier: the rows were held out of the live model's training: the new file did not bring them.
    :param unseen: the new model was surely not trained on them; else that it is no worse on them tells nothing.
    """

    source: str
    differences: Mapping[str, Difference]
    earlier: bool = False
    unseen: bool = True

    @property
    def is_small(self) -> bool:
        """Whether the rows are too few to decide anything."""
        return all(one.rows < FEW_ROWS for one in self.differences.values())

    @property
    def verdict(self) -> Verdict:
        """Worse if one metric is, no worse if all are."""
        verdicts = {one.verdict for one in self.differences.values()}
        if Verdict.WORSE in verdicts:
            return Verdict.WORSE
        return Verdict.NO_WORSE if verdicts <= {Verdict.NO_WORSE} else Verdict.UNDECIDED

    def sentences(self, verdict: Verdict) -> list[str]:
        """The metrics that say so, a sentence each.

        :param verdict: one of theirs.
        """
        named = ((name, one) for name, one in self.differences.items() if one.verdict is verdict)
        return [f"On {self.source}, {name} is {one}." for name, one in named]


@dataclass(frozen=True)
class Judgement:
    """What becomes of a new model, and why.

    :param decision: what becomes of it.
    :param undecided: whether the rows left it open.
    :param reasons: a sentence each.
    """

    decision: Decision
    undecided: bool = False
    reasons: list[str] = field(default_factory=list)


def judge(
    evidence: Sequence[Evidence], on_undecided: str | None, expected: bool | None, *, moved: bool = False
) -> Judgement:
    """The judgement of all sets of rows together.

    :param evidence: of each set.
    :param on_undecided: one of :data:`ON_UNDECIDED`; ``None``: *pass* if the training file was as
        expected, else *keep*.
    :param expected: whether the training file satisfies the live model's data contract, with labels shared out as
        before; ``None``: not known, as with a service without contracts. Then the values decide where the intervals
        do not.
    :param moved: columns of the training file are spread in another way than before, and the new model is far worse on
        the rows of before. The former alone is benign, as a season is; together they rather tell of a wrong file.
    """
    brought = [one for one in evidence if not one.earlier]
    earlier = [one for one in evidence if one.earlier]
    if reasons := _sentences(brought, Verdict.WORSE):
        return Judgement(Decision.KEEP, reasons=reasons)
    against = _sentences(earlier, Verdict.WORSE)
    # Rows that are too few leave nothing open that others decide.
    open_ = _sentences([one for one in brought if not one.is_small] or brought, Verdict.UNDECIDED)
    if expected is False and not any(one.unseen and one.verdict is Verdict.NO_WORSE for one in earlier):
        open_.append(UNLIKE)
    if not against and not open_:
        return Judgement(Decision.PASS)
    if against:
        against.append(
            "The world may have changed, or the training file may be wrong: on the rows that it brought, the new "
            "model is not worse."
        )
        if moved:
            against.append(MOVED)
    reasons = [*against, *open_]
    if on_undecided is not None:
        decision = {"pass": Decision.PASS, "keep": Decision.KEEP, "fail": Decision.FAIL}[on_undecided]
    elif expected is None and not against:
        decision = Decision.PASS if all(_within(one) for one in brought) else Decision.KEEP
    else:
        # A changed world would make the new model the better one on the new rows, by the plain value of some metric.
        is_ruined = against and (moved or not all(map(_within_some, brought)))
        decision = Decision.PASS if expected and not is_ruined else Decision.KEEP
    return Judgement(decision, True, reasons)


def _sentences(evidence: Sequence[Evidence], verdict: Verdict) -> list[str]:
    return [sentence for one in evidence for sentence in one.sentences(verdict)]


def _within(evidence: Evidence) -> bool:
    return all(one.is_within for one in evidence.differences.values())


def _within_some(evidence: Evidence) -> bool:
    return any(one.is_within for one in evidence.differences.values())
