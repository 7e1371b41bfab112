"""Drift is told where it is large and not chance; of many endpoints without any, few are called drifted."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest

from airflow_provider_azureml_classic.exceptions import NotFound, RequestRejected
from airflow_provider_azureml_classic.protocol.drift import DRIFTED, NOT_KNOWN, STEADY, TOO_FEW, EndpointDrift, Terms
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.counters.drift import adjusted, difference, judged, measured, upper_tail
from airflow_provider_azureml_classic.server.counters.ledger import Asked, ModelBins, Sum
from airflow_provider_azureml_classic.server.experiments.histogram import Expected
from benchmarks.drift_null import false_events
from tests.support.portal import Visitor
from tests.support.service import TOKEN, Service

#: Of a column of numbers, the last share is that of cells without a value.
SHARES = (0.05, 0.2, 0.25, 0.25, 0.2, 0.05, 0.0)


def test_probabilities_of_chi_square() -> None:
    """As in the tables of any book, for odd and even degrees of freedom."""
    known = {(3.841, 1): 0.05, (5.991, 2): 0.05, (11.345, 3): 0.01, (18.467, 4): 0.001, (0.0, 5): 1.0}
    for (square, degrees), probability in known.items():
        assert upper_tail(square, degrees) == pytest.approx(probability, rel=2e-3)
    assert 0 < upper_tail(1e6, 7) < 1e-200


def test_rates_of_false_discoveries() -> None:
    """The example of Benjamini and Hochberg's paper: four of its fifteen differences are found at a rate of 0.05."""
    tests = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528,
             0.7590, 1.0]  # fmt: skip
    assert sum(rate <= 0.05 for rate in adjusted(tests[::-1])) == 4
    assert adjusted([]) == []


def test_the_index_is_that_of_the_shares() -> None:
    """By its definition, where there are many rows; rare bins are taken together, and what is never seen is finite."""
    now = (0.1, 0.3, 0.2, 0.2, 0.15, 0.05)
    expected = sum((n - b) * np.log(n / b) for n, b in zip(now, SHARES, strict=False))
    psi, p = difference(SHARES, 10**6, [int(share * 10**6) for share in now] + [0])
    assert psi == pytest.approx(expected, rel=1e-3)
    assert p < 1e-200
    # A text that the model never saw, in all rows.
    psi, p = difference((0.5, 0.5, 0.0, 0.0), 1000, (0, 0, 0, 200))
    assert psi > 5
    assert p < 1e-20
    assert difference((1.0, 0.0), 100, (100, 0)) == (0.0, 1.0)


@pytest.mark.parametrize("rows", [200, 20_000])
def test_of_endpoints_without_drift_hardly_any_is_called_drifted(rows: int) -> None:
    """A thousand tests, of training rows and calls that are drawn of the same numbers."""
    draw = np.random.default_rng(rows)
    bins, asked = [], []
    for number in range(100):
        shares = [draw.multinomial(rows, SHARES[:-1]) / rows for _ in range(10)]
        features = tuple(Expected(f"f{i}", 6, (*one.tolist(), 0.0)) for i, one in enumerate(shares))
        bins.append(ModelBins(rows, features))
        counts = [[*draw.multinomial(300, SHARES[:-1]).tolist(), 0, 0, 0] for _ in range(10)]
        asked.append(Asked(str(number), "m", None, 1, Sum(300, 300, 300, [cell for one in counts for cell in one])))
    terms = Terms()
    verdicts = [one.verdict for one in judged([measured(a, b, terms) for a, b in zip(asked, bins, strict=True)], terms)]
    assert verdicts.count(STEADY) >= 99


def drift(service: Service, **terms: Any) -> dict[str, EndpointDrift]:
    """The drift of the endpoints of the scoring service, by name."""
    return {one.name: one for one in service.client.get_drift(service.scoring, Terms(**terms))}


def ask(service: Service, endpoint: Endpoint, numbers: Any, at_once: int = 10) -> None:
    """Calls of some rows each."""
    rows = [{"x": float(x)} for x in numbers]
    for first in range(0, len(rows), at_once):
        service.client.score(endpoint, rows[first : first + at_once])


@pytest.mark.slow
def test_an_endpoint_that_is_asked_other_rows_has_drifted(service: Service, scorer: Endpoint) -> None:
    """And not the one beside it; too few rows are said to be that, and so is what is not compared."""
    other = service.client.add_endpoint(service.scoring, "other")
    ask(service, scorer, [3 + n % 3 for n in range(150)])
    ask(service, other, [n % 21 / 10 for n in range(150)], at_once=50)
    answer = drift(service)
    mine = answer["mine"]
    assert (mine.verdict, mine.calls, mine.rows, mine.counted, mine.drifted) == (DRIFTED, 15, 150, 150, ("x",))
    assert mine.since == date(2016, 3, 1)
    assert mine.features[0].outside == 1
    assert "drifted in 150 rows; stability index: x " in str(mine)
    assert (answer["other"].verdict, answer["other"].calls, answer["other"].drifted) == (STEADY, 3, ())
    assert (answer["default"].verdict, answer["default"].calls) == (TOO_FEW, 0)
    assert drift(service, rows=151)["mine"].verdict == TOO_FEW
    assert drift(service, ignore=frozenset({"x"}))["mine"].verdict == STEADY
    assert drift(service, psi=100)["mine"].verdict == STEADY


def test_only_the_last_days_count(service: Service, scorer: Endpoint) -> None:
    """Today is the first of them; days are summed."""
    for day in range(3):
        ask(service, scorer, [1.0] * (40 + day))
        drift(service)
        service.clock.advance(days=1)
    assert [drift(service, days=days)["mine"].rows for days in (1, 2, 3, 4)] == [0, 42, 83, 123]
    assert drift(service, days=30)["mine"].since == date(2016, 3, 1)


@pytest.mark.slow
def test_counts_belong_to_a_model_and_outlive_the_server(
    service: Service, scorer: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another model begins with none; a model that comes back has its own again; a restart loses nothing."""
    ask(service, scorer, [1.0] * 120)
    service.patch("mine", service.signed("models/ten.ilearner"))
    assert drift(service)["mine"].rows == 0
    ask(service, scorer, [1.0] * 30)
    service.client.refresh_endpoint(service.scoring, "mine", overwrite_resources=True)
    service.close()
    again = Service(service.settings.data_dir, service.clock, monkeypatch)
    try:
        assert drift(again)["mine"].rows == 120
    finally:
        again.close()


def test_a_model_that_tells_nothing_of_its_training_is_not_judged() -> None:
    """Models of earlier versions."""
    bins = ModelBins(0, (Expected("x", 1, None),))
    asked = Asked("a", "m", None, 1, Sum(500, 500, 500, [480, 20, 0, 300]))
    (answer,) = judged([measured(asked, bins, Terms())], Terms())
    assert (answer.verdict, answer.features[0].psi, answer.features[0].outside) == (NOT_KNOWN, None, 0.6)


def test_pages(service: Service) -> None:
    """Each endpoint once, by name, however many there are in a page; those of one verdict alone."""
    for number in range(5):
        service.client.add_endpoint(service.scoring, f"e{number}")
    path = f"/workspaces/{service.settings.workspace_id}/webservices/{service.scoring}/drift?limit=2"
    names, after = [], ""
    for _ in range(3):
        body = service.ask("GET", f"{path}{after}").body.decode()
        names += [part.split('"')[0] for part in body.split('"Name":"')[1:]]
        after = f"&after={names[-1]}"
    assert '"Next":null' in body
    assert names == ["default", *(f"e{number}" for number in range(5))]
    assert service.client.get_drift(service.scoring, verdict=DRIFTED) == []


@pytest.mark.parametrize("query", ["days=0", "days=x", "psi=nan", "rows=1", "limit=0", "ignore=x", "verdict=odd"])
def test_what_cannot_be_meant_is_refused(service: Service, query: str) -> None:
    """With the parameter's name."""
    path = f"/workspaces/{service.settings.workspace_id}/webservices/{service.scoring}/drift?{query}"
    answer = service.ask("GET", path)
    assert answer.status == 400
    assert query.partition("=")[0].encode() in answer.body


def test_a_service_without_the_call_is_told_apart(service: Service) -> None:
    """From a web service that is not there."""
    with pytest.raises(NotFound, match="no web service"):
        service.client.get_drift("0" * 32)
    elsewhere = service.client
    elsewhere.management_url += "/elsewhere"
    with pytest.raises(RequestRejected, match="offers no call that tells the drift"):
        elsewhere.get_drift(service.scoring)


@pytest.mark.slow
def test_portal_and_metrics_tell_it(service: Service, scorer: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """By feature on the page of the endpoint; the largest index in the metrics, to the workspace token alone."""
    ask(service, scorer, [3 + n % 3 for n in range(150)], at_once=150)
    visitor = Visitor(service)
    visitor.sign_in()
    page = visitor.page(f"/portal/services/{service.scoring}/endpoints/mine")
    assert "Drifted: 1 calls of the last 7 days, 150 rows counted." in page
    assert "100.0 %" in page
    monkeypatch.setitem(vars(service.settings), "open_metrics", True)
    line = f'azureml_classic_drift_psi{{endpoint="mine",service="{service.scoring}"}}'
    headers: tuple[dict[str, str], ...] = ({"authorization": f"Bearer {TOKEN}"}, {})
    assert [line in visitor.http.get("/metrics", headers=one).text for one in headers] == [True, False]


def test_where_none_has_drifted_none_is_called_so() -> None:
    """Two hundred endpoints that are asked what they were trained on: no drift by default, and hardly one where chance
    alone decides; uncorrected, one in a hundred of their thousand features would be called one.
    """
    assert false_events(1, 100, Terms(), endpoints=200, features=5) == 0
    assert false_events(1, 1_000, Terms(psi=0.01), endpoints=200, features=5) <= 1
