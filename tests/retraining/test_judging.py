"""Which rows two models are compared on, and what is left out, with a service that gives made answers."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.client.retries import NO_RETRIES
from airflow_provider_azureml_classic.exceptions import ServiceUnavailable
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.model_scoring import HeldOutRows, ModelAnswers, ModelCall
from airflow_provider_azureml_classic.protocol.references import BlobReference, ToldWindow
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource
from airflow_provider_azureml_classic.retraining.evaluation import CheckRows, Evaluation
from airflow_provider_azureml_classic.retraining.judging import Comparison, Report, Rules
from airflow_provider_azureml_classic.retraining.placing import Candidate
from airflow_provider_azureml_classic.retraining.quality import Allowance

ERROR = "Mean Absolute Error"
ROWS, START = 80, datetime(2026, 1, 1, tzinfo=UTC)
NEW, LIVE = Digests("a" * 64, "b" * 64), Digests("c" * 64, "d" * 64)
LABELS = [float(row % 10) for row in range(ROWS)]


def off(by: float, seed: int = 1) -> Table:
    """Answers that are wrong by about so much."""
    source = random.Random(seed)  # noqa: S311 - test data
    return Table(("Scored Labels",), [[label + by * source.choice((-1.2, -1, 1, 1.2))] for label in LABELS])


#: The new model is wrong by 2 on its own rows, as the live one is on *its* own, which is wrong by 3 on other rows and
#: by 0.1 on those that it knows.
EVALUATION = Evaluation(
    {ERROR: 2.0},
    check=CheckRows(
        "y",
        LABELS,
        Table(("x",), [[row] for row in range(ROWS)]),
        off(2),
        [START + timedelta(days=n) for n in range(ROWS)],
    ),
)
HELD = HeldOutRows(LABELS, off(2, 2), list(range(ROWS)), LIVE, 0)


def judged(end: datetime | None, held: HeldOutRows | None = HELD, **more: Any) -> Report:
    """The report of a comparison with a live model whose window ends then."""
    window = ToldWindow(end, more.get("first", False))
    resource = Resource("r", BlobReference("models/live.ilearner"), digests=LIVE, window=window)
    endpoint = Endpoint("e", "s", resources=(resource,))
    after = replace(endpoint, resources=(replace(resource, digests=more.get("after", LIVE)),))

    def service(request: Request) -> Response:
        if request.operation.name == "get_endpoint":
            return Response.of_json(after.to_wire(), status=200)
        call = ModelCall.from_wire(json.loads(request.body))
        if call.rows is None:
            answers = Table(("Scored Labels",), [off(more.get("forgot", 2), 3).values[row] for row in HELD.asked])
            return Response.of_json(ModelAnswers(answers, NEW, held).to_wire(), status=200)
        positions = [int(row[0]) for row in call.rows.values]
        known = [end is not None and START + timedelta(days=row) < end for row in positions]
        cells = [off(0.1 if one else 3).values[row] for row, one in zip(positions, known, strict=True)]
        return Response.of_json(ModelAnswers(Table(("Scored Labels",), cells), LIVE).to_wire(), status=200)

    client = Client("http://service.test", "w", "t", transport=service, retries=NO_RETRIES)
    rules = Rules(allowances={ERROR: Allowance(0.5)})
    report = Report.of("job", EVALUATION, rules)
    asked = Comparison(
        client, rules, endpoint, resource, Candidate(BlobReference("models/new.ilearner"), None, digests=NEW)
    )
    found = {"verdict": "satisfied", "labels_as_before": True, "columns_as_before": more.get("as_before", True)}
    client.perform(asked.judge(report, EVALUATION, found))
    return report


def test_rows_that_the_live_model_knows_are_left_out() -> None:
    """The others decide, if there are enough; the live model is worse by nothing that it never saw."""
    report = judged(START + timedelta(days=30))
    assert [(one["rows"], one["verdict"]) for one in report.sets] == [(50, "no worse"), (80, "no worse")]
    assert report.reasons == []
    assert "30 rows held out of the training lie in the live model's window" in " ".join(report.notes)


def test_a_window_that_overlaps_much_makes_no_equal_model_worse() -> None:
    """Too few rows are new to the live model: each is measured on what was held out of its own training."""
    report = judged(START + timedelta(days=70))
    assert report.sets[0]["live"][ERROR] == pytest.approx(2.2, abs=0.1)
    assert (report.sets[0]["verdict"], report.reasons) == ("no worse", [])
    # Where nobody tells of such rows, those that it knows are all that there is, and a note says so.
    alone = judged(START + timedelta(days=70), None)
    assert alone.sets[0]["live"][ERROR] < 1
    assert "which favours it" in " ".join(alone.notes)


def test_rows_of_the_model_that_a_service_began_with_do_not_count() -> None:
    """They are rows of nobody in particular."""
    assert len(judged(None, first=True).sets) == 1


@pytest.mark.parametrize(("as_before", "kept"), [(True, False), (False, True)])
def test_a_model_that_forgot_what_the_live_one_knows(as_before: bool, kept: bool) -> None:
    """It is undecided, with both figures; columns that are spread in another way decide against it."""
    report = judged(START, forgot=4, as_before=as_before)
    assert report.judgement is not None
    assert report.judgement.undecided
    assert [one["verdict"] for one in report.sets] == ["no worse", "worse"]
    assert bool(report.reasons) is kept


def test_another_model_that_goes_live_meanwhile_leaves_nothing_decided() -> None:
    """The task may be retried: what was measured is live no more."""
    with pytest.raises(ServiceUnavailable, match="another one was put live"):
        judged(START + timedelta(days=30), after=NEW)
