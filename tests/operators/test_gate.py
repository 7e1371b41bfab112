"""The gate before an update, against the running server: real jobs, real live models."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.operators import (
    BatchExecutionOperator,
    ListEndpointsOperator,
    ModelQualityGate,
    RetrainFleetOperator,
    UpdateTrainedModelOperator,
)
from airflow_provider_azureml_classic.protocol.messages import Response
from airflow_provider_azureml_classic.protocol.values import EndpointSettings, is_check_endpoint
from airflow_provider_azureml_classic.retraining.check_endpoints import check_endpoint_name
from airflow_provider_azureml_classic.retraining.quality import Metric
from airflow_provider_azureml_classic.server.experiments.datasets import first_census
from tests.support import BIKES, BIKES_SCORING, CENSUS, CENSUS_SCORING, ServerProcess
from tests.support.gates import DAY, ERROR, added, context, live, one_sentence, rentals, trained
from tests.support.tasks import wired

pytestmark = pytest.mark.usefixtures("airflow_connection")

LATER = DAY + timedelta(days=7)


@pytest.fixture(scope="module")
def module_client(server: ServerProcess) -> Client:
    """A client for what is made once."""
    return server.client()


@pytest.fixture(scope="module")
def good(server: ServerProcess, module_client: Client) -> dict[str, Any]:
    """A job whose model knows that rentals rise by the hour."""
    return trained(server, module_client, "gategood", DAY, rentals())


@pytest.fixture(scope="module")
def poor(server: ServerProcess, module_client: Client) -> dict[str, Any]:
    """A later job on so few rows of the same kind that its model always answers the mean."""
    return trained(server, module_client, "gatepoor", LATER, rentals(rows=30), start=DAY - timedelta(days=1))


@pytest.fixture(scope="module")
def moved(server: ServerProcess, module_client: Client) -> dict[str, Any]:
    """A later job, after rentals have risen to another level."""
    return trained(server, module_client, "gatemoved", LATER, rentals(300, month=3))


@pytest.fixture(scope="module")
def few(server: ServerProcess, module_client: Client) -> dict[str, Any]:
    """A job on so few rows that none was held out."""
    return trained(server, module_client, "gatefew", LATER, rentals(rows=2))


def gate(endpoint: str, job: Any, **options: Any) -> ModelQualityGate:
    """The operator."""
    return ModelQualityGate(task_id="gate", web_service=BIKES_SCORING, endpoint=endpoint, job=job, **options)


def put(client: Client, name: str, job: dict[str, Any]) -> None:
    """An endpoint whose live model is that of a job."""
    added(client, name)
    task = UpdateTrainedModelOperator(
        task_id="put", web_service=BIKES_SCORING, endpoint=name, job=job, only_if_newer=False, proof="version"
    )
    task.execute(context())


class TestThresholds:
    """Limits on what the job itself says."""

    @pytest.mark.slow
    def test_pass(self, good: Any) -> None:
        """A model within its limits passes, whatever endpoint it is for, and the report says what was measured."""
        found = gate("nosuchendpoint", good, thresholds={ERROR: {"max": 50}}).execute(context())
        assert (found["decision"], found["reasons"], found["job_id"]) == ("pass", [], good["job_id"])
        assert 0 < found["metrics"]["evaluation"][ERROR] < 50
        assert found["metrics"]["live"] == {}

    def test_kept(self, good: Any) -> None:
        """A model outside its limits skips the update, and the metrics are in XCom all the same."""
        given = context()
        with one_sentence(AirflowSkipException, "'x' keeps its model", f"{ERROR} is ", "above the maximum of 0.01."):
            gate("x", good, thresholds={ERROR: {"max": 0.01}}).execute(given)
        pushed = given["ti"].pushed["return_value"]
        assert pushed["decision"] == "kept"
        assert pushed["metrics"]["evaluation"][ERROR] > 0.01

    def test_fail(self, good: Any) -> None:
        """With on_worse="fail" the same fails the task, without retries."""
        given = context()
        with one_sentence(AirflowFailException, "above the maximum of 0.01."):
            gate("x", good, thresholds={ERROR: {"max": 0.01}}, on_worse="fail").execute(given)
        assert given["ti"].pushed["return_value"]["reasons"]

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["gate", "fleet"])
    def test_metrics_of_the_training_rows_do_not_pass_unless_told_to(
        self, server: ServerProcess, client: Client, few: Any, kind: str
    ) -> None:
        """Nothing was held out, so a model that knows its rows by heart would be the best; gate and fleet alike."""
        limits = {ERROR: {"max": 1000}}
        words = "Rows Held Out is 0: the metrics are those of the training rows"
        if kind == "gate":
            with one_sentence(AirflowSkipException, words, "set allow_training_metrics=True"):
                gate("x", few, thresholds=limits).execute(context())
            assert gate("x", few, thresholds=limits, allow_training_metrics=True).execute(context())["reasons"] == []
            return
        added(client, "gatefleet")
        rows = [{"endpoint": "gatefleet", "inputs": f"training/gatefew-{LATER:%Y%m%d}.csv"}]
        ends = {}
        for allowed in (False, True):
            task = RetrainFleetOperator(
                task_id="f",
                training_service=BIKES,
                scoring_service=BIKES_SCORING,
                items=rows,
                thresholds=limits,
                allow_training_metrics=allowed,
                poll_interval=0.2,
                deferrable=False,
            )
            (row,) = task.execute(context())["rows"]
            ends[row["outcome"]] = row["reason"]
        assert words in ends["kept"]
        assert "updated" in ends

    def test_rows_of_another_file_need_no_held_out_ones(self, few: Any) -> None:
        """Where the file alone judges the model, what the job held out does not matter: the gate goes on to compare."""
        rules = {"max_worse": {ERROR: 0}, "check_data": "check/none.csv", "check_endpoint": "trial"}
        found = gate("nosuchendpoint", few, first_model="pass", **rules).execute(context())
        assert (found["decision"], found["metrics"]["evaluation"]["Rows Held Out"]) == ("pass", 0)

    @pytest.mark.slow
    def test_a_fleet_judges_as_the_gate_does(
        self, server: ServerProcess, client: Client, good: Any, moved: Any
    ) -> None:
        """Its endpoints are compared on the same rows by the same rules, and the reason is in the row."""
        put(client, "gatefleetsame", good)
        rows = [{"endpoint": "gatefleetsame", "inputs": f"training/gatemoved-{LATER:%Y%m%d}.csv"}]
        before = live(client, "gatefleetsame")
        task = RetrainFleetOperator(
            task_id="f",
            training_service=BIKES,
            scoring_service=BIKES_SCORING,
            items=rows,
            max_worse={ERROR: "5%"},
            on_undecided="keep",
            window_end=LATER.isoformat(),
            poll_interval=0.2,
            deferrable=False,
        )
        (row,) = task.execute(context())["rows"]
        assert row["outcome"] == "kept"
        assert f"held out of the live model's training, {ERROR} is " in row["reason"]
        assert live(client, "gatefleetsame") == before

    def test_a_missing_metric_fails(self, good: Any) -> None:
        """A metric that the job did not write is an error even where a worse model is only skipped."""
        with one_sentence(AirflowFailException, "'AUC' is missing or not defined; those that are: Mean Absolute Error"):
            gate("x", good, thresholds={"AUC": {"min": 0.5}}).execute(context())


class TestComparison:
    """No worse than the live model, on the rows that the job held out."""

    @pytest.mark.slow
    def test_a_better_model_passes(self, client: Client, good: Any, moved: Any) -> None:
        """After the world has changed, the live model is far worse on the new rows, and the new one on those of before:
        both figures are told, and whoever says so lets it pass."""
        put(client, "gatebetter", good)
        found = gate("gatebetter", moved, max_worse={ERROR: 0}, on_undecided="pass").execute(context())
        new, old = found["metrics"]["candidate"][ERROR], found["metrics"]["live"][ERROR]
        assert (found["decision"], found["undecided"]) == ("pass", True)
        assert "The world may have changed" in " ".join(found["notes"])
        brought, earlier = found["sets"]
        assert (brought["verdict"], brought["earlier"], earlier["verdict"], earlier["earlier"]) == (
            *("no worse", False),
            *("worse", True),
        )
        assert earlier["live"][ERROR] < 50 < 150 < earlier["candidate"][ERROR]
        assert new < 50 < 150 < old
        assert new == pytest.approx(found["metrics"]["evaluation"][ERROR], rel=1e-4)
        assert found["compared_on"] == {"rows": 96, "source": "held out of the training"}
        assert found["live_model"] == live(client, "gatebetter")

    @pytest.mark.slow
    def test_a_worse_model_is_kept_out(self, client: Client, good: Any, poor: Any) -> None:
        """A model that knows less than the live one is kept out, and overlapping training data are noted."""
        put(client, "gateworse", good)
        given = context()
        with one_sentence(
            AirflowSkipException, "'gateworse' keeps its model", "the live model's ", "of which 10% is allowed"
        ):
            gate("gateworse", poor, max_worse={ERROR: "10%"}).execute(given)
        pushed = given["ti"].pushed["return_value"]
        assert pushed["metrics"]["live"][ERROR] < pushed["metrics"]["candidate"][ERROR]
        assert "lie in the live model's window as well" in " ".join(pushed["notes"])

    @pytest.mark.slow
    def test_a_worse_model_within_the_allowance_passes(self, client: Client, good: Any, poor: Any) -> None:
        """The same comparison passes where so much is allowed."""
        put(client, "gateallowed", good)
        assert gate("gateallowed", poor, max_worse={ERROR: 500}).execute(context())["decision"] == "pass"

    @pytest.mark.slow
    def test_thresholds_and_comparison_give_all_reasons(self, client: Client, good: Any, poor: Any) -> None:
        """Every rule that is broken is told, not only the first."""
        put(client, "gateboth", good)
        rules = {"thresholds": {"Rows": {"min": 100}}, "max_worse": {ERROR: 0}}
        with one_sentence(AirflowSkipException, "Rows is 30, below the minimum of 100.", "worse by"):
            gate("gateboth", poor, **rules).execute(context())

    def test_the_model_that_is_live_already_passes(self, client: Client, good: Any) -> None:
        """Clearing gate and update after the update is harmless."""
        put(client, "gateagain", good)
        found = gate("gateagain", good, max_worse={ERROR: 0}).execute(context())
        assert (found["decision"], found["notes"]) == ("pass", ["The new model is live already."])

    @pytest.mark.slow
    def test_an_own_metric(self, client: Client, good: Any, moved: Any) -> None:
        """A metric of the user's own is computed for both models and compared in the direction that was said."""
        put(client, "gateown", moved)
        highest = Metric(lambda answers: max(said for _, said in answers.numbers()), lower_is_better=False)
        task = gate("gateown", good, max_worse={"Highest": 1}, own_metrics={"Highest": highest})
        with one_sentence(AirflowSkipException, "Highest is "):
            task.execute(context())

    @pytest.mark.slow
    def test_the_log_shows_both_sets_of_metrics(
        self, client: Client, good: Any, moved: Any, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """One aligned table with a column each and the rules beside them."""
        put(client, "gatelog", good)
        rules = {"max_worse": {ERROR: "5%"}, "thresholds": {ERROR: {"max": 90}}}
        gate("gatelog", moved, on_undecided="pass", **rules).execute(context())
        lines = capfd.readouterr().out.splitlines()
        head, earlier = [line for line in lines if line.startswith("metric ")]
        row, _ = [line for line in lines if line.startswith(ERROR)]
        assert earlier.split() == ["metric", "candidate", "live"]
        assert head.split() == ["metric", "evaluation", "candidate", "live", "rule"]
        assert row.index("max 90, worse by 5% at most") == head.index("rule")

    def test_rows_that_are_not_there(self, client: Client, good: Any, few: Any) -> None:
        """Where nothing was held out there is nothing to compare on, which fails and says what to do."""
        put(client, "gatefew", good)
        with one_sentence(AirflowFailException, "holds no rows", "check_data and check_endpoint"):
            gate("gatefew", few, max_worse={ERROR: 0}).execute(context())


@pytest.mark.slow
def test_classes(server: ServerProcess, client: Client) -> None:
    """A model of two classes is compared by AUC, accuracy and log loss, all of them those that the job wrote."""
    name = "gateclasses"
    client.add_endpoint(client.find_web_service(CENSUS_SCORING).id, name)
    stream = io.StringIO()
    first_census(stream)
    head, *rows = stream.getvalue().splitlines()
    # The other way round: who earned little earns much, so the model that the service was born with is mostly wrong.
    turned = [row.replace(">50K", "?").replace("<=50K", ">50K").replace("?", "<=50K") for row in rows]
    server.upload("training/gateclasses.csv", "\n".join([head, *turned[:3000], ""]))
    train = BatchExecutionOperator(
        task_id="t",
        web_service=CENSUS,
        inputs={"input1": "training/gateclasses.csv"},
        model_for=name,
        poll_interval=0.2,
    )
    job = train.execute(context())
    rules = {"AUC": 0, "Accuracy": "1%", "Average Log Loss": 0}
    task = ModelQualityGate(task_id="g", web_service=CENSUS_SCORING, endpoint=name, job=job, max_worse=rules)
    found = task.execute(context())
    metrics = found["metrics"]
    assert metrics["live"]["AUC"] < 0.5 < metrics["candidate"]["AUC"]
    assert metrics["live"]["Average Log Loss"] > metrics["candidate"]["Average Log Loss"]
    # At most 500 of the 600 held-out rows come along, so both sets of metrics are close, not the same.
    assert metrics["candidate"] == {key: pytest.approx(metrics["evaluation"][key], rel=0.15) for key in rules}


class TestFirstModel:
    """A live model of unknown age, or none at all."""

    def test_compare(self, client: Client, moved: Any) -> None:
        """By default the model that the service was born with is compared with like any other."""
        added(client, "gatefirst")
        found = gate("gatefirst", moved, max_worse={ERROR: 0}).execute(context())
        assert found["metrics"]["live"][ERROR] > found["metrics"]["candidate"][ERROR]

    def test_pass(self, client: Client, poor: Any) -> None:
        """With "pass" it is not; the thresholds still hold."""
        added(client, "gatefirst")
        found = gate("gatefirst", poor, max_worse={ERROR: 0}, first_model="pass").execute(context())
        assert (found["decision"], found["metrics"]["live"]) == ("pass", {})
        assert found["notes"] == ["The live model names no training window, so it was not compared with."]
        strict = {"thresholds": {"Rows": {"min": 100}}, "max_worse": {ERROR: 0}}
        with one_sentence(AirflowSkipException, "Rows is 30"):
            gate("gatefirst", poor, first_model="pass", **strict).execute(context())

    def test_fail(self, client: Client, moved: Any) -> None:
        """With "fail" a person has to decide."""
        added(client, "gatefirst")
        with one_sentence(AirflowFailException, "names no training window, and first_model='fail'"):
            gate("gatefirst", moved, max_worse={ERROR: 0}, first_model="fail").execute(context())

    @pytest.mark.slow
    def test_a_window_that_the_service_tells_counts(self, client: Client, good: Any, moved: Any) -> None:
        """A model at a path without a stamp is of the window that its submission said, and not of unknown age."""
        name = "gatetold"
        train = BatchExecutionOperator(
            task_id="t",
            web_service=BIKES,
            inputs={"input1": f"training/gategood-{DAY:%Y%m%d}.csv"},
            outputs={"output1": "models/unstamped.ilearner"},
            model_for=name,
            poll_interval=0.05,
        )
        put(client, name, train.execute(context()))
        found = gate(name, moved, max_worse={ERROR: 0}, first_model="fail", on_undecided="pass").execute(context())
        assert found["metrics"]["live"][ERROR] > found["metrics"]["candidate"][ERROR]

    def test_no_endpoint(self, moved: Any) -> None:
        """Without the endpoint there is nothing to compare with: only "pass" passes."""
        found = gate("gatenone", moved, max_worse={ERROR: 0}, first_model="pass").execute(context())
        assert found["notes"] == ["There is no endpoint 'gatenone' yet, so there is no model to compare with."]
        with one_sentence(AirflowFailException, "has no endpoint 'gatenone'", "first_model='pass' lets"):
            gate("gatenone", moved, max_worse={ERROR: 0}).execute(context())


class TestCheckData:
    """A comparison on rows that neither model has seen."""

    @pytest.mark.slow
    def test_both_models_are_asked_through_endpoints(
        self, server: ServerProcess, client: Client, good: Any, moved: Any
    ) -> None:
        """The new model is tried in an endpoint of its own: the live endpoint and its model stay as they are."""
        put(client, "gatecheck", good)
        added(client, "gateaside")
        server.upload("check/rows.csv", rentals(300, rows=600))
        before = live(client, "gatecheck")
        options = {"check_data": "check/rows.csv", "check_endpoint": "gateaside", "on_undecided": "pass"}
        found = gate("gatecheck", moved, max_worse={ERROR: 0}, **options).execute(context())
        assert found["compared_on"] == {"rows": 600, "source": f"{server.account.endpoint}/check/rows.csv"}
        assert found["metrics"]["candidate"][ERROR] < 50 < 150 < found["metrics"]["live"][ERROR]
        assert live(client, "gatecheck") == before
        assert live(client, "gateaside").endswith("models/gatemoved/20260308T000000Z.ilearner")

    @pytest.mark.slow
    def test_no_endpoint_is_needed(self, server: ServerProcess, client: Client, good: Any, moved: Any) -> None:
        """The server asks both models by their digests; nothing is put anywhere, and no endpoint is added."""
        put(client, "gatebyfile", good)
        server.upload("check/byfile.csv", rentals(300, rows=60))
        service = client.find_web_service(BIKES_SCORING)
        before = {one.name: one.etag for one in client.list_endpoints(service.id)}
        options = {"check_data": "check/byfile.csv", "on_undecided": "pass"}
        found = gate("gatebyfile", moved, max_worse={ERROR: 0}, **options).execute(context())
        assert [one["rows"] for one in found["sets"]] == [60, 96, 96]
        assert found["metrics"]["candidate"][ERROR] < 50 < 150 < found["metrics"]["live"][ERROR]
        assert {one.name: one.etag for one in client.list_endpoints(service.id)} == before

    @pytest.mark.slow
    def test_a_service_that_cannot_be_asked_for_a_model_file(
        self, server: ServerProcess, client: Client, good: Any, moved: Any
    ) -> None:
        """The gate makes an endpoint for itself, which an attempt that fails leaves to the next one; then it is gone.
        One that was left behind for more than a day is removed, and lists show neither.
        """
        put(client, "gateolder", good)
        server.upload("check/older.csv", rentals(300, rows=60))
        service = client.find_web_service(BIKES_SCORING)
        old = check_endpoint_name("somebody", "else")
        client.add_endpoint(
            service.id, old, EndpointSettings(description="Made by a gate to try a model out; taken up at 2026-01-01")
        )
        seen: list[str] = []

        def older(ends: bool) -> ModelQualityGate:
            more = {"check_data": "check/older.csv", "check_timeout": 0.01 if ends else 120, "on_undecided": "pass"}
            task = gate("gateolder", moved, max_worse={ERROR: 0}, **more)
            wire = wired(task, seen)
            wire.bends["score_model"] = lambda request, _: Response(404, {}, b"")
            if ends:
                wire.bends["score"] = lambda request, _: Response(400, {}, b"")
            return task

        with pytest.raises(AirflowException, match="was not seen to be live"):
            older(ends=True).execute(context())
        made = {one.name for one in client.list_endpoints(service.id) if is_check_endpoint(one.name)}
        assert len(made) == 1
        assert old not in made
        listed = ListEndpointsOperator(task_id="l", web_service=BIKES_SCORING).execute(context())
        assert not any(is_check_endpoint(one["name"]) for one in listed)
        before = seen.count("patch_endpoint")
        found = older(ends=False).execute(context())
        # The model is on it already.
        assert seen.count("patch_endpoint") == before
        assert [one["rows"] for one in found["sets"]] == [60, 96]
        assert found["metrics"]["candidate"][ERROR] < 50 < 150 < found["metrics"]["live"][ERROR]
        assert not any(is_check_endpoint(one.name) for one in client.list_endpoints(service.id))

    @pytest.mark.slow
    def test_a_worse_model_is_kept_out(self, server: ServerProcess, client: Client, good: Any, moved: Any) -> None:
        """What the rows show decides: on yesterday's world the new model is the worse one."""
        put(client, "gatecheckbad", good)
        added(client, "gateasidebad")
        server.upload("check/old.csv", rentals(100, rows=50))
        options = {"check_data": "check/old.csv", "check_endpoint": "gateasidebad"}
        with one_sentence(AirflowSkipException, "keeps its model"):
            gate("gatecheckbad", moved, max_worse={ERROR: 1}, **options).execute(context())

    @pytest.mark.slow
    def test_the_live_endpoint_is_never_the_one_to_try_in(
        self, server: ServerProcess, client: Client, good: Any, moved: Any
    ) -> None:
        """Trying the new model in the live endpoint would be the update itself."""
        put(client, "gatesame", good)
        server.upload("check/few.csv", rentals(300, rows=30))
        before = live(client, "gatesame")
        options = {"check_data": "check/few.csv", "check_endpoint": "gatesame"}
        with one_sentence(AirflowFailException, "'gatesame', the endpoint whose model is live"):
            gate("gatesame", moved, max_worse={ERROR: 0}, **options).execute(context())
        assert live(client, "gatesame") == before

    @pytest.mark.slow
    @pytest.mark.parametrize("extension", ["tsv", "arff"])
    def test_other_formats_say_the_same(
        self, server: ServerProcess, client: Client, good: Any, moved: Any, extension: str
    ) -> None:
        """The rows are read as the extension of their file says; the metrics are those of the same rows as CSV."""
        put(client, f"gate{extension}", good)
        added(client, f"gateaside{extension}")
        names, *lines = rentals(300, rows=60).splitlines()
        heading = names.replace(",", "\t")
        if extension == "arff":
            kinds = {"dteday": "string"}
            declared = [f"@attribute {name} {kinds.get(name, 'numeric')}" for name in names.split(",")]
            heading = "\n".join(["@relation rentals", *declared, "@data"])
        server.upload("check/same.csv", "\n".join([names, *lines]))
        rows = lines if extension == "arff" else [line.replace(",", "\t") for line in lines]
        server.upload(f"check/same.{extension}", "\n".join([heading, *rows]))
        found = [
            gate(
                f"gate{extension}", moved, max_worse={ERROR: 0}, check_data=f"check/same.{form}",
                check_endpoint=f"gateaside{extension}", on_undecided="pass",
            ).execute(context())
            for form in ("csv", extension)
        ]  # fmt: skip
        assert found[1]["compared_on"]["rows"] == 60
        assert found[0]["metrics"] == found[1]["metrics"]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("hr,b\n1,2\n", "the CSV has no column 'cnt'; its columns are: hr, b."),
            ("hr,cnt\n", "has a header row but no data rows"),
            ("hr,cnt\n1,2\n3\n", "Data row 2 has 1 cell; the header row has 2"),
        ],
    )
    def test_data_that_cannot_be_used(
        self, server: ServerProcess, client: Client, good: Any, moved: Any, content: str, words: str
    ) -> None:
        """What is wrong with the file is said with its name, before anything is put anywhere."""
        put(client, "gatedata", good)
        path = f"check/bad{len(content)}.csv"
        server.upload(path, content)
        with one_sentence(AirflowFailException, path, words):
            gate("gatedata", moved, max_worse={ERROR: 0}, check_data=path, check_endpoint="x").execute(context())


class TestRules:
    """What can be wrong with the rules themselves is said before the service is asked."""

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({}, "The gate has no rule: set thresholds, max_worse or both."),
            ({"max_worse": {"Profit": 1}}, "max_worse names 'Profit', which cannot be computed"),
            ({"max_worse": {"AUC": "much"}}, "max_worse of 'AUC' is 'much'"),
            ({"thresholds": {"AUC": {"least": 1}}}, "thresholds['AUC'] is"),
            ({"max_worse": {"AUC": 0}, "first_model": "maybe"}, "first_model is 'maybe'; it must be one of"),
            ({"max_worse": {"AUC": 0}, "on_worse": "warn"}, "on_worse is 'warn'"),
            ({"max_worse": {"AUC": 0}, "check_endpoint": "b"}, "check_endpoint is set, and no check_data"),
            ({"max_worse": {"AUC": 0}, "on_undecided": "b"}, "on_undecided is 'b'; it must be one of"),
        ],
    )
    def test_rules_that_make_no_sense(self, options: Any, words: str) -> None:
        """A mistyped rule fails the task with one sentence."""
        with one_sentence(AirflowFailException, words):
            gate("x", {"job": "none"}, **options).execute(context())

    def test_something_else_instead_of_a_job(self) -> None:
        """A job is what the training task returned, nothing else."""
        with one_sentence(AirflowFailException, "job must be what BatchExecutionOperator returned, not str."):
            gate("x", "12ab", thresholds={"AUC": {"min": 0}}).execute(context())
