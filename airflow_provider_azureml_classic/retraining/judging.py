"""The judgement of a new model, one program for gate, fleet and command line: limits of its metrics, then a comparison
with the live model on up to three sets of rows. No Airflow, no I/O of its own.

Rule: what is compared is known by its digest wherever the service tells it. Each model is asked by the digest of its
file; where the service cannot do that, through an endpoint, before and after which the digests are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_azureml_classic.client.retries import Program
from airflow_provider_azureml_classic.client.verbs import Verbs
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, ServiceUnavailable
from airflow_provider_azureml_classic.protocol.digests import Digests, same_model
from airflow_provider_azureml_classic.protocol.model_scoring import ModelAnswers, ModelCall
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource
from airflow_provider_azureml_classic.retraining.comparison import Labelled, answers_of, held_out, parts_of
from airflow_provider_azureml_classic.retraining.data_contract import as_expected, columns_as_before
from airflow_provider_azureml_classic.retraining.evaluation import Evaluation
from airflow_provider_azureml_classic.retraining.intervals import FEW_ROWS, differences_of
from airflow_provider_azureml_classic.retraining.judgement import ON_UNDECIDED, Decision, Evidence, Judgement, judge
from airflow_provider_azureml_classic.retraining.placing import Candidate
from airflow_provider_azureml_classic.retraining.quality import (
    METRICS,
    Allowance,
    Answers,
    Metric,
    finite,
    measured,
    on_training_rows,
    outside,
    skill,
    table_text,
)

Metrics = dict[str, float | None]
#: Rows of one call to a model by its digest: each call fetches and loads the model.
_CALL = 5_000
#: A new model has forgotten something if it lost so much of what the live one knows of the rows of before.
_FORGOTTEN = 0.05
_NO_CALL = "OperationNotSupported"
_NOT_FITTING = frozenset({"InputMismatchError", "InputParseError"})


@dataclass(frozen=True)
class Rules:
    """What a new model has to be.

    :param limits: of the metrics of its evaluation, see :func:`~.quality.check_limits`.
    :param allowances: by metric, how much worse than the live model it may be.
    :param metrics: how metrics are computed, by name.
    :param on_undecided: see :func:`~.judgement.judge`.
    :param allow_training_metrics: the metrics may be those of the training rows.
    """

    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    allowances: Mapping[str, Allowance] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=lambda: METRICS)
    on_undecided: str | None = None
    allow_training_metrics: bool = False

    def check(self, option: str = "max_worse") -> None:
        """Refuse rules that cannot be meant.

        :param option: what users call the allowances.
        :raises ValueError: naming the option.
        """
        if self.on_undecided not in (None, *ON_UNDECIDED):
            allowed = ", ".join(ON_UNDECIDED)
            raise ValueError(f"on_undecided is {self.on_undecided!r}; it must be one of: None, {allowed}.")
        unknown = [name for name in self.allowances if name not in self.metrics]
        if unknown:
            raise ValueError(
                f"{option} names {unknown[0]!r}, which cannot be computed from answers; those that can be: "
                f"{', '.join(self.metrics)}. Add it to own_metrics, with the direction that is better."
            )


@dataclass(frozen=True)
class RowSet:
    """Rows with the answers of both models.

    :param source: where they come from, as a sentence goes on after "rows".
    :param new: answers of the new model.
    :param live: answers of the live one.
    :param earlier: they were held out of the live model's training.
    :param unseen: the new model was surely not trained on them.
    :param paired: both answered the same rows; else each those that were held out of its own training.
    """

    source: str
    new: Answers
    live: Answers
    earlier: bool = False
    unseen: bool = True
    paired: bool = True

    @property
    def count(self) -> int:
        """Rows, of the model that has fewer."""
        return min(len(self.new.labels), len(self.live.labels))

    @property
    def lost(self) -> float:
        """Share of what the live model knows that the new one does not."""
        new, live = skill(self.new), skill(self.live)
        return 1 - new / live if new is not None and live is not None and live > 0 else 0.0


@dataclass
class Report:
    """What was found of a new model.

    :param job_id: the job whose model is judged.
    :param evaluation: metrics as the job wrote them.
    :param live_model: location of the live model.
    :param sets: what was measured on each set of rows, the one first by which it is mainly judged.
    :param judgement: what the comparison says.
    :param reasons: why the model is not good enough; empty if it is.
    :param notes: what a reader of the metrics should know.
    """

    job_id: str
    evaluation: Metrics
    live_model: str | None = None
    sets: list[dict[str, Any]] = field(default_factory=list)
    judgement: Judgement | None = None
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, job_id: str, evaluation: Evaluation, rules: Rules, *, only_compared: bool = False) -> Report:
        """What the limits say.

        :param job_id: the job.
        :param evaluation: of it.
        :param rules: with the limits.
        :param only_compared: the rows that were held out do not matter where there are no limits.
        :raises ValueError: a metric that a limit names is missing.
        """
        report = cls(job_id, finite(evaluation.metrics))
        report.reasons = outside(report.evaluation, rules.limits)
        judged = rules.limits or (rules.allowances and not only_compared)
        if judged and not rules.allow_training_metrics:
            report.reasons += on_training_rows(report.evaluation)
        return report

    def to_json(self) -> dict[str, Any]:
        """For XCom."""
        main: Mapping[str, Any] = self.sets[0] if self.sets else {}
        shown = {"candidate": main.get("candidate", {}), "live": main.get("live", {})}
        return {
            "decision": "kept" if self.reasons else "pass",
            "reasons": self.reasons,
            "notes": self.notes,
            "job_id": self.job_id,
            "live_model": self.live_model,
            "metrics": {"evaluation": self.evaluation, **shown},
            "compared_on": {"rows": main.get("rows", 0), "source": main.get("source")},
            "differences": main.get("differences", {}),
            "sets": self.sets,
            "undecided": self.judgement is not None and self.judgement.undecided,
        }

    def text(self, rules: Rules) -> str:
        """The metrics as tables, for a log.

        :param rules: shown beside them.
        """
        marks = {name: [f"{bound} {value:g}" for bound, value in one.items()] for name, one in rules.limits.items()}
        for name, allowance in rules.allowances.items():
            marks.setdefault(name, []).append(f"worse by {allowance} at most")
        main, *others = self.sets or [{}]
        columns: dict[str, Metrics] = {"evaluation": self.evaluation}
        columns |= {key: main[key] for key in ("candidate", "live") if key in main}
        compared = f" Compared on {main['rows']} rows, {main['source']}." if main else ""
        tables = [f"Job {self.job_id}.{compared}"]
        tables.append(table_text(columns, {name: ", ".join(parts) for name, parts in marks.items()}))
        for one in others:
            tables.append(f"Compared on {one['rows']} rows, {one['source']}.")
            tables.append(table_text({"candidate": one["candidate"], "live": one["live"]}, {}))
        return "\n".join(tables)


#: The new model's answers, where it is put on an endpoint that serves nobody else.
Aside = Callable[[Labelled], Answers]


@dataclass(frozen=True)
class Comparison:
    """A new model beside the live one of an endpoint.

    :param client: of the workspace; blocking or asynchronous.
    :param rules: what is allowed.
    :param endpoint: as read just before.
    :param resource: of the endpoint, with the live model.
    :param candidate: the new model, its location readable.
    :param aside: asks the new model on an endpoint of its own.
    :param prefer_aside: do so even where the service can be asked by a digest.
    """

    client: Verbs
    rules: Rules
    endpoint: Endpoint
    resource: Resource
    candidate: Candidate
    aside: Aside | None = None
    prefer_aside: bool = False

    def judge(
        self, report: Report, evaluation: Evaluation, found: Mapping[str, Any] | None, check: Labelled | None = None
    ) -> Program[None]:
        """Compare, and say in the report what comes of it.

        :param report: of the new model.
        :param evaluation: of its job, with the rows that were held out.
        :param found: what the data check of its job found; ``None``: nothing is known.
        :param check: further rows, with labels.
        :raises ValueError: there are no rows, or a metric is not defined on them.
        :raises ServiceUnavailable: another model was put live meanwhile.
        """
        held, earlier = yield from self._earlier(report)
        offered = held is not None
        sets: list[RowSet] = []
        if check is not None:
            new = yield from self._new(check, offered)
            sets.append(RowSet(check.source, new, (yield from self._live(check, offered))))
        if evaluation.check is not None or check is None:
            sets.append((yield from self._brought(report, evaluation, held)))
        yield from self._check_live()
        every = [*sets, *earlier]
        evidence = []
        for one in every:
            try:
                evidence.append(self._evidence(report, one, len(every), evaluation))
            except ValueError as error:
                if not one.earlier:
                    raise
                report.notes.append(f"On {one.count} rows {one.source}: {error}")
        moved = columns_as_before(found) is False and any(one.lost > _FORGOTTEN for one in earlier)
        judgement = judge(evidence, self.rules.on_undecided, as_expected(found), moved=moved)
        report.judgement = judgement
        (report.notes if judgement.decision is Decision.PASS else report.reasons).extend(judgement.reasons)

    def _brought(self, report: Report, evaluation: Evaluation, held: ModelAnswers | None) -> Program[RowSet]:
        """The rows that the new training held out: those of them that the live model does not know."""
        rows, new = held_out(evaluation)
        end, times = self.resource.window_end, evaluation.check.times if evaluation.check else ()
        unseen = [row for row, time in enumerate(times) if time is None or end is None or time >= end]
        known = len(times) - len(unseen)
        if known and len(unseen) >= FEW_ROWS:
            report.notes.append(f"{known} rows {rows.source} lie in the live model's window as well and were left out.")
            rows, new = rows.at(unseen), new.at(unseen)
        elif known and held is not None and held.held_out is not None and len(held.held_out.labels) >= FEW_ROWS:
            report.notes.append(
                f"{known} of {len(times)} rows {rows.source} lie in the live model's window as well: it is measured on "
                f"{len(held.held_out.labels)} rows that were held out of its own training instead."
            )
            own = Answers(held.held_out.labels, held.held_out.live)
            return RowSet(f"{rows.source}, the live model's held out of its own", new, own, paired=False)
        elif known:
            report.notes.append(f"The live model may know {known} of the {len(times)} rows, which favours it.")
        return RowSet(rows.source, new, (yield from self._live(rows, held is not None)))

    def _evidence(self, report: Report, rows: RowSet, sets: int, evaluation: Evaluation) -> Evidence:
        metrics, allowances = self.rules.metrics, self.rules.allowances
        names = [name for name in metrics if name in evaluation.metrics or name in allowances]
        differences = differences_of(rows.new, rows.live, allowances, metrics, sets, paired=rows.paired)
        one = Evidence(f"{rows.count} rows {rows.source}", differences, rows.earlier, rows.unseen)
        if rows.count < FEW_ROWS:
            report.notes.append(f"The {one.source} are too few to decide by: at least {FEW_ROWS} are needed.")
        report.sets.append(
            {
                "source": rows.source,
                "rows": rows.count,
                "earlier": rows.earlier,
                "candidate": measured(rows.new, names, metrics),
                "live": measured(rows.live, names, metrics),
                "differences": {name: difference.to_json() for name, difference in differences.items()},
                "verdict": one.verdict.value,
            }
        )
        return one

    # -- who answers ---------------------------------------------------------------------------------------------------

    def _earlier(self, report: Report) -> Program[tuple[ModelAnswers | None, list[RowSet]]]:
        """The answer to the call for the rows that the live model's training held out, ``None`` where there is no such
        call; and those rows.
        """
        digests, call = self.candidate.digests, ModelCall(self.candidate.location, self._file)
        try:
            told: ModelAnswers = yield Verbs.score_model.steps(self.client, self.endpoint, call)
        except AzureMLClassicError as error:
            if error.detail_code in _NOT_FITTING:
                report.notes.append(f"The new model cannot be asked for the live model's own rows: {error.message}")
                return ModelAnswers(Table((), []), None), []
            if error.detail_code != _NO_CALL:
                raise
            return None, []
        held, window = told.held_out, self.resource.window
        if held is None:
            report.notes.append("The service keeps no rows that were held out of the live model's training.")
            return told, []
        if window is not None and window.is_first:
            # They are rows of nobody in particular.
            report.notes.append("The live model is the one that the web service began with: its own rows do not count.")
            return told, []
        self._check_same(told.model, digests)
        self._check_same(held.model, self.resource.digests)
        report.notes += held.notes()
        new = Answers([held.labels[row] for row in held.asked], told.answers)
        if not held.asked:
            return told, []
        live = Answers(held.labels, held.live).at(held.asked)
        return told, [RowSet("held out of the live model's training", new, live, True, held.left_out is not None)]

    @property
    def _file(self) -> str | None:
        return self.candidate.digests.file if self.candidate.digests else None

    def _new(self, rows: Labelled, offered: bool) -> Program[Answers]:
        if self.aside is not None and (self.prefer_aside or not offered):
            return self.aside(rows)
        return (yield from self._asked(rows, self.candidate.digests, ModelCall(self.candidate.location, self._file)))

    def _live(self, rows: Labelled, offered: bool) -> Program[Answers]:
        digests = self.resource.digests
        if offered and digests is not None and digests.file:
            return (yield from self._asked(rows, digests, ModelCall(None, digests.file)))
        return (yield from answers_of(self.client, self.endpoint, rows))

    def _asked(self, rows: Labelled, digests: Digests | None, call: ModelCall) -> Program[Answers]:
        values: list[Sequence[Any]] = []
        names: tuple[str, ...] = ()
        for part in parts_of(rows.rows, _CALL):
            asked = ModelCall(call.location, call.file, part)
            told: ModelAnswers = yield Verbs.score_model.steps(self.client, self.endpoint, asked)
            self._check_same(told.model, digests)
            names = told.answers.column_names
            values += told.answers.values
        return Answers(rows.labels, Table(names, values))

    # -- which model it was --------------------------------------------------------------------------------------------

    def _check_same(self, told: Digests | None, meant: Digests | None) -> None:
        if same_model(told, meant) is False:
            raise self._changed()

    def _check_live(self) -> Program[None]:
        """Read the endpoint again: nothing is decided about a model that is live no more."""
        after: Endpoint = yield Verbs.get_endpoint.steps(self.client, self.endpoint.web_service_id, self.endpoint.name)
        self._check_same(after.resource(self.resource.name).digests, self.resource.digests)

    def _changed(self) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"While the models were compared, another one was put live on endpoint {self.endpoint.name!r}, or on its "
            "place. Nothing was decided.",
            hint="Compare again.",
        )
