"""Putting a model in place and proving it, against the running server: a wire in between misbehaves on demand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from airflow_provider_azureml_classic.assets import event_extra
from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.exceptions import ServiceUnavailable
from airflow_provider_azureml_classic.notifications import receipt_text
from airflow_provider_azureml_classic.operators import BatchExecutionOperator, UpdateTrainedModelOperator
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.server.experiments.ilearner import content_digest, read_ilearner
from tests.support import BIKES, BIKES_SCORING, ServerProcess, wait_for_job
from tests.support.portal import keep_calls
from tests.support.tasks import (
    DAY,
    NOON,
    Store,
    Wire,
    added,
    answer,
    context,
    edited,
    live,
    one_line,
    refused,
    rentals,
    submitted,
    trained,
    trainer,
    wired,
)

pytestmark = pytest.mark.usefixtures("airflow_connection")

OLD, NEW, NEXT = DAY, DAY + timedelta(days=1), DAY + timedelta(days=2)
Send = Callable[[Request], Response]


@pytest.fixture(scope="module")
def module_client(server: ServerProcess) -> Client:
    """A client for what is made once."""
    return server.client()


@pytest.fixture(scope="module")
def old(server: ServerProcess, module_client: Client) -> dict[str, Any]:
    """A finished job, and its model of an early day."""
    return trained(server, module_client, "opupdate", OLD, level=100)


@pytest.fixture(scope="module")
def new(server: ServerProcess, module_client: Client) -> dict[str, Any]:
    """A finished job, and its model of the day after, which gives other answers."""
    return trained(server, module_client, "opupdate", NEW, level=300)


def update(endpoint: str, job: Any = None, **options: Any) -> UpdateTrainedModelOperator:
    """The operator, not waiting long for a proof."""
    given = {"proof_timeout": 5.0, **options}
    return UpdateTrainedModelOperator(task_id="update", web_service=BIKES_SCORING, endpoint=endpoint, job=job, **given)


def path_of(end: datetime) -> str:
    """Path of a model of this module."""
    return f"models/opupdate/{end:%Y%m%dT%H%M%SZ}.ilearner"


class TestPutInPlace:
    """What is put in place, and the receipt."""

    @pytest.mark.slow
    def test_receipt(self, client: Client, server: ServerProcess, old: Any, new: Any) -> None:
        """The receipt says what is live, how that was proved, and what was replaced; it holds no token."""
        added(client, "upreceipt")
        first = update("upreceipt", old).execute(context())
        assert first["replaced"]["window_end"] is None
        task = update("upreceipt", new)
        wire = wired(task)
        found = task.execute(context())
        assert live(client, "upreceipt") == path_of(NEW)
        content = client.fetch_blob(server.sas(path_of(NEW)))
        assert found["model"] == {
            "location": f"{server.account.endpoint}/{path_of(NEW)}",
            "length": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "content": content_digest(*read_ilearner(content)),
        }
        replaced = dict(found["replaced"])
        # What the old model said to the new one's golden rows: other numbers, as many.
        assert len(replaced.pop("answers")["Values"]) == 5
        before = content_digest(*read_ilearner(client.fetch_blob(server.sas(path_of(OLD)))))
        assert (replaced.pop("content"), len(replaced.pop("sha256"))) == (before, 64)
        assert replaced == {
            "location": f"{server.account.endpoint}/{path_of(OLD)}",
            "window_end": OLD.isoformat(),
        }
        assert (found["proof"]["level"], found["job_id"]) == ("content", new["job_id"])
        assert found["proof"]["seconds"] >= 0
        assert found["window"] == {"start": None, "end": NEW.isoformat()}
        assert (found["web_service"], found["endpoint"]) == (BIKES_SCORING, "upreceipt")
        assert found["resource"] == "Bike Rental [trained model]"
        assert "sig=" not in json.dumps(found)
        assert wire.journal.index("get_job") < wire.journal.index("patch_endpoint")

    @pytest.mark.slow
    def test_location(self, client: Client, server: ServerProcess, new: Any) -> None:
        """A stored model can be given as a path or with its token; the path says its window."""
        added(client, "uplocation")
        found = update("uplocation", location=path_of(NEW)).execute(context())
        assert (found["job_id"], found["window"]["end"]) == (None, NEW.isoformat())
        assert found["model"]["sha256"]
        assert found["proof"]["level"] == "version"
        update("uplocation", location=server.sas(path_of(NEW)).url).execute(context())
        assert live(client, "uplocation") == path_of(NEW)

    @pytest.mark.slow
    def test_location_with_a_blank(self, client: Client, server: ServerProcess, new: Any) -> None:
        """A URL writes a blank as ``%20`` where the service names the model with a blank: it is the same model."""
        added(client, "upblank")
        server.upload("models/of march.ilearner", client.fetch_blob(server.sas(path_of(NEW))))
        url = server.sas("models/of march.ilearner").url
        assert "of%20march" in url
        receipt = update("upblank", location=url).execute(context())
        assert receipt["proof"]["level"] == "version"
        assert live(client, "upblank") == "models/of march.ilearner"
        assert receipt["model"]["sha256"]

    @pytest.mark.slow
    def test_only_model_output_without_a_name(self, client: Client, new: Any) -> None:
        """Where the job's result names no output, its only model is meant."""
        added(client, "upoutput")
        job = {key: value for key, value in new.items() if key != "model_output"}
        update("upoutput", job).execute(context())
        assert live(client, "upoutput") == path_of(NEW)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["Bike Rental [trained model]", " bike rental [TRAINED MODEL] "])
    def test_resource_by_name(self, client: Client, new: Any, name: str) -> None:
        """The resource may be named, in any case."""
        added(client, "upresource")
        assert update("upresource", new, resource=name).execute(context())["resource"] == name.strip().title().replace(
            "[Trained Model]", "[trained model]"
        )


class TestOnlyIfNewer:
    """A backfill never moves an endpoint backwards."""

    @pytest.mark.slow
    def test_older_is_skipped(self, client: Client, old: Any, new: Any) -> None:
        """An older model is not put in place; the reason names both windows."""
        added(client, "upolder")
        update("upolder", new).execute(context())
        task = update("upolder", old)
        wire = wired(task)
        words = ("'upolder' keeps its model", "up to 2026-03-02 00:00 UTC", "only up to 2026-03-01 00:00 UTC")
        with one_line(AirflowSkipException, *words):
            task.execute(context())
        assert "patch_endpoint" not in wire.journal
        assert live(client, "upolder") == path_of(NEW)

    @pytest.mark.slow
    def test_older_on_demand(self, client: Client, old: Any, new: Any) -> None:
        """If asked, an older model is put in place."""
        added(client, "updemand")
        update("updemand", new).execute(context())
        assert update("updemand", old, only_if_newer=False).execute(context())["proof"]["level"] == "content"
        assert live(client, "updemand") == path_of(OLD)

    @pytest.mark.slow
    def test_equal_window_goes_on(self, client: Client, new: Any) -> None:
        """The model of a job whose model is live is put in place again, and proved."""
        added(client, "upequal")
        update("upequal", new).execute(context())
        assert update("upequal", new).execute(context())["proof"]["level"] == "content"

    @pytest.mark.slow
    def test_the_same_model_is_live_already(self, client: Client, server: ServerProcess, new: Any) -> None:
        """A training that gave what is live already is skipped as that, and its window is recorded."""
        added(client, "uplive")
        server.upload("models/elsewhere.ilearner", client.fetch_blob(server.sas(path_of(NEW))))
        update("uplive", location="models/elsewhere.ilearner").execute(context())
        with one_line(AirflowSkipException, "'uplive' keeps its model", "the very model that is live already"):
            update("uplive", new).execute(context())
        assert live(client, "uplive") == path_of(NEW)

    @pytest.mark.slow
    def test_unknown_window(self, client: Client, server: ServerProcess, old: Any, new: Any) -> None:
        """A model without a window is not put over one with a window, and it is said what to give."""
        added(client, "upunknown")
        server.upload("models/nameless.ilearner", client.fetch_blob(server.sas(path_of(OLD))))
        update("upunknown", location="models/nameless.ilearner").execute(context())
        update("upunknown", new).execute(context())
        with one_line(AirflowFailException, "nameless.ilearner is unknown", "Set window_end", "only_if_newer=False"):
            update("upunknown", location="models/nameless.ilearner").execute(context())
        given = update("upunknown", location="models/nameless.ilearner", window_end=NEXT.isoformat())
        assert given.execute(context())["window"]["end"] == NEXT.isoformat()


class TestUnknownWindow:
    """The live model lies at a path without a stamp, and nobody said on which data it was trained."""

    @pytest.fixture
    def nameless(self, client: Client, server: ServerProcess) -> str:
        """An endpoint with such a model."""
        name = f"upnameless{uuid4().hex[:6]}"
        added(client, name)
        job_id = submitted(server, client, path=f"training/{name}.csv", model=f"own/{name}.ilearner")
        client.start_job(trainer(client), job_id)
        wait_for_job(client, trainer(client), job_id)
        update(name, location=f"own/{name}.ilearner").execute(context())
        return name

    @pytest.mark.slow
    def test_a_service_that_tells_windows(self, client: Client, nameless: str, new: Any) -> None:
        """Our server knows all windows that it was told: one that it does not know is refused, with what to do."""
        words = (f"'{nameless}'", f"own/{nameless}.ilearner, is unknown", "set unknown_window='replace', once")
        task = update(nameless, new)
        wired(task).bends["get_endpoint"] = without_last_times
        with one_line(AirflowFailException, *words):
            task.execute(context())
        assert live(client, nameless) == f"own/{nameless}.ilearner"
        update(nameless, new, unknown_window="replace").execute(context())
        assert live(client, nameless) == path_of(NEW)

    @pytest.mark.slow
    def test_another_service(self, client: Client, nameless: str, new: Any, capsys: pytest.CaptureFixture[str]) -> None:
        """One that tells no windows has its model replaced, and the log says so, unless that is refused."""

        def silent(**options: Any) -> UpdateTrainedModelOperator:
            task = update(nameless, new, **options)
            wired(task).bends["get_endpoint"] = without_windows
            return task

        with one_line(AirflowFailException, "is unknown"):
            silent(unknown_window="refuse").execute(context())
        silent().execute(context())
        assert "is unknown, so only_if_newer=True cannot tell" in capsys.readouterr().out
        assert live(client, nameless) == path_of(NEW)

    @pytest.mark.slow
    def test_nonsense(self, nameless: str, new: Any) -> None:
        """Another word is refused."""
        with one_line(AirflowFailException, "unknown_window is 'hope'", "'replace', 'refuse' or None"):
            update(nameless, new, unknown_window="hope").execute(context())


def without_last_times(request: Request, send: Send) -> Response:
    """A service that tells training windows, but not the last times of data whose window it was not told."""
    response = send(request)
    data = json.loads(response.body)
    for resource in data["Resources"]:
        (resource.get("ModelWindow") or {}).pop("Last", None)
    return edited(response, Resources=data["Resources"])


def without_windows(request: Request, send: Send) -> Response:
    """A service that tells no training window."""
    response = send(request)
    resources = json.loads(response.body).get("Resources") or []
    return edited(response, Resources=[{**one, "ModelWindow": None} for one in resources])


@pytest.mark.slow
def test_a_path_without_a_stamp(client: Client, server: ServerProcess) -> None:
    """The window of the submission counts: an older backfill does not replace a newer model at whatever path."""
    added(client, "upownpath")
    jobs = {}
    for day, level in ((NEW, 500), (OLD, 100)):
        server.upload(f"training/own{level}.csv", rentals(level))
        jobs[day] = BatchExecutionOperator(
            task_id="train",
            web_service=BIKES,
            inputs={"input1": f"training/own{level}.csv"},
            outputs={"output1": f"own/{day:%Y-%m-%d}.ilearner"},
            model_for="upownpath",
            poll_interval=0.2,
        ).execute(context(end=day))
    update("upownpath", jobs[NEW]).execute(context())
    with one_line(AirflowSkipException, "up to 2026-03-02 00:00 UTC", "only up to 2026-03-01 00:00 UTC"):
        update("upownpath", jobs[OLD]).execute(context())
    assert live(client, "upownpath") == f"own/{NEW:%Y-%m-%d}.ilearner"


class TestRefused:
    """What cannot be updated is said in one line, and changes nothing."""

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (
                {"endpoint": "default"},
                ("'default' is the default endpoint", "Add an endpoint to the scoring web service"),
            ),
            ({"endpoint": "upnowhere"}, ("has no endpoint 'upnowhere'", "it has")),
            ({"resource": "Other"}, ("no updatable resource 'Other'; it has: 'Bike Rental [trained model]'",)),
            ({"proof": "hope"}, ("proof is 'hope'", "resource, version, score or content")),
            ({"location": "models/x.ilearner"}, ("exactly one of job",)),
            (
                {"job": None},
                ("job is empty.", "that task left no result in this run", "Otherwise set job or location."),
            ),
            ({"job": "None"}, ("job is empty.", "that task left no result in this run")),
            ({"job": "abc"}, ("job must be what BatchExecutionOperator returned, not str",)),
            ({"job": {"job_id": "abc"}}, ("job must be what BatchExecutionOperator returned",)),
            ({"model_output": "output9"}, ("no single output named 'output9'", "output1", "output2")),
            ({"job": None, "location": "models/missing.ilearner"}, ("missing.ilearner",)),
            ({"window_end": "soon"}, ("'soon' is not a time",)),
        ],
        ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
    )
    def test_wrong_argument(self, client: Client, new: Any, options: dict[str, Any], words: tuple[str, ...]) -> None:
        """A wrong argument is named, with what is right."""
        before = added(client, "uprefused").resource().location
        given = {"endpoint": "uprefused", "job": new, **options}
        with one_line(AirflowFailException, *words):
            update(**given).execute(context())
        assert live(client, "uprefused") == (before.relative_location if before else "")

    def test_training_service(self, client: Client, new: Any) -> None:
        """A training service has nothing to update; the hint says where to look."""
        service = client.find_web_service(BIKES)
        client.add_endpoint(service.id, "uptraining")
        task = UpdateTrainedModelOperator(task_id="update", web_service=BIKES, endpoint="uptraining", job=new)
        with one_line(AirflowFailException, "no updatable resources", "looks like the training web service"):
            task.execute(context())

    def test_unfinished_job(self, client: Client, server: ServerProcess) -> None:
        """A job that has not written its model yet cannot update anything."""
        added(client, "upunfinished")
        job_id = submitted(server, client, path="training/upunfinished.csv")
        with one_line(AirflowFailException, job_id, "it has: none"):
            update("upunfinished", {"web_service": BIKES, "endpoint": "default", "job_id": job_id}).execute(context())

    def test_model_of_another_experiment(self, client: Client, server: ServerProcess) -> None:
        """A blob that is no model is refused by the service before the old one is touched."""
        before = added(client, "upbad").resource().location
        server.upload("models/upbad/20260301T000000Z.ilearner", b"no model")
        with one_line(AirflowFailException, "patch_endpoint", "HTTP 400"):
            update("upbad", location="models/upbad/20260301T000000Z.ilearner").execute(context())
        assert live(client, "upbad") == (before.relative_location if before else "")


def ignoring(request: Request, send: Send) -> Response:
    """Accepts a PATCH and does nothing."""
    return Response(200)


def once(first: Callable[[Request, Send], Response]) -> Callable[[Request, Send], Response]:
    """Misbehaves at the first call only."""
    left = [1]

    def bend(request: Request, send: Send) -> Response:
        left[0] -= 1
        return first(request, send) if left[0] >= 0 else send(request)

    return bend


@pytest.mark.slow
class TestProof:
    """200 to a PATCH means accepted, not live."""

    @pytest.mark.parametrize("level", ["resource", "version", "score"])
    def test_levels(self, client: Client, old: Any, new: Any, level: Any) -> None:
        """Each level can be asked for, and is in the receipt."""
        added(client, f"uplevel{level}")
        update(f"uplevel{level}", old).execute(context())
        task = update(f"uplevel{level}", new, proof=level)
        wire = wired(task)
        assert task.execute(context())["proof"]["level"] == level
        # Once before the PATCH, three rounds after it.
        assert wire.journal.count("score") == (4 if level == "score" else 0)

    def test_score_cannot_tell(self, client: Client, new: Any) -> None:
        """Where the live model gives the same answers, a proof by scoring is refused rather than pretended."""
        added(client, "upsame")
        update("upsame", new).execute(context())
        with one_line(AirflowFailException, "the live model gives the same answers", "Use proof='strongest'"):
            update("upsame", new, proof="score").execute(context())
        with one_line(AirflowFailException, "there are no golden rows"):
            update("upsame", location=path_of(NEW), proof="score").execute(context())

    def test_weak_service(self, client: Client, new: Any) -> None:
        """A service that sends neither version nor ``ETag`` is proved by the location it shows."""
        added(client, "upweak")
        task = update("upweak", location=path_of(NEW))
        wired(task).bends["get_endpoint"] = lambda request, send: Response(
            200, {}, edited(send(request), Version=None).body
        )
        assert task.execute(context())["proof"]["level"] == "resource"

    @pytest.mark.parametrize(("source", "level"), [("location", "resource"), ("job", "content")])
    def test_version_of_the_graph(self, client: Client, old: Any, new: Any, source: str, level: str) -> None:
        """A service without ``ETag`` whose version does not change with a model is proved by what it does show."""
        name = f"upgraph{source}"
        added(client, name)
        update(name, old).execute(context())
        task = update(name, **({"location": path_of(NEW)} if source == "location" else {"job": new}))
        wired(task).bends["get_endpoint"] = lambda request, send: Response(
            200, {}, edited(send(request), Version="2016-02-11T09:30:02.417Z").body
        )
        assert task.execute(context())["proof"]["level"] == level

    def failing(self, client: Client, endpoint: str, old: Any, new: Any, **options: Any) -> tuple[Any, Wire]:
        """An endpoint with the old model, and a task that is to put the new one there; its wire."""
        added(client, endpoint)
        update(endpoint, old).execute(context())
        task = update(endpoint, new, proof_timeout=0.4, **options)
        return task, wired(task)

    def test_accepted_and_ignored(self, client: Client, old: Any, new: Any) -> None:
        """An accepted PATCH that changes nothing fails the task: the old model is still named."""
        task, wire = self.failing(client, "upignored", old, new)
        wire.bends["patch_endpoint"] = ignoring
        words = ("accepted the update", "after 0.4 s it still names", path_of(OLD), "Nothing was put back.")
        with one_line(AirflowFailException, *words):
            task.execute(context())
        assert live(client, "upignored") == path_of(OLD)

    def test_named_but_not_moved(self, client: Client, old: Any, new: Any) -> None:
        """A service that names the new model but whose version stands still has not updated."""
        task, wire = self.failing(client, "upstill", old, new, proof="version")
        before = client.get_endpoint(client.find_web_service(BIKES_SCORING).id, "upstill")

        def still(request: Request, send: Send) -> Response:
            response = edited(send(request), Version=before.version)
            return Response(200, {**response.headers, "etag": before.etag or ""}, response.body)

        wire.bends["get_endpoint"] = still
        with one_line(AirflowFailException, f"its version is still {before.version}."):
            task.execute(context())

    def test_stale_every_second_time(self, client: Client, old: Any, new: Any) -> None:
        """A service behind a balancer of which one half is not updated has not proved anything."""
        task, wire = self.failing(client, "upstale", old, new)
        answers: list[Response] = []

        def stale(request: Request, send: Send) -> Response:
            answers.append(send(request))
            return answers[0] if len(answers) % 2 else answers[-1]

        wire.bends["score"] = stale
        with one_line(AirflowFailException, "it does not give the new model's answers to the golden rows."):
            task.execute(context())

    def test_goes_back(self, client: Client, old: Any, new: Any) -> None:
        """A service that goes back to the old model while it is looked at has not proved anything."""
        task, wire = self.failing(client, "upback", old, new)
        answers: list[Response] = []

        def going_back(request: Request, send: Send) -> Response:
            answers.append(send(request))
            return answers[-1] if len(answers) in (2, 3) else answers[0]

        wire.bends["score"] = going_back
        with one_line(AirflowFailException, "it does not give the new model's answers"):
            task.execute(context())

    def test_slow_service(self, client: Client, old: Any, new: Any) -> None:
        """A service that needs a while, and does not answer in between, is given the time allowed."""
        added(client, "upslow")
        update("upslow", old).execute(context())
        task = update("upslow", new)
        wire = wired(task)
        first: list[Response] = []

        def slow(request: Request, send: Send) -> Response:
            first.append(send(request))
            looks = wire.journal.count("get_endpoint")
            if looks in (4, 5):
                return refused(503, "NoMoreResources", "Busy.")
            return first[0] if looks < 4 and "upslow" in request.url else first[-1]

        wire.bends["get_endpoint"] = slow
        assert task.execute(context())["proof"]["level"] == "content"

    def test_unseen(self, client: Client, old: Any, new: Any) -> None:
        """An endpoint that cannot be seen after the PATCH is no proof; the error is in the sentence."""
        task, wire = self.failing(client, "upunseen", old, new)

        def unseen(request: Request, send: Send) -> Response:
            patched = "patch_endpoint" in wire.journal
            return refused(503, "NoMoreResources", "Busy.") if patched else send(request)

        wire.bends["get_endpoint"] = unseen
        with one_line(AirflowFailException, "the endpoint could not be read: get_endpoint", "Busy."):
            task.execute(context())

    def test_not_scoring(self, client: Client, old: Any, new: Any) -> None:
        """An endpoint that does not score any more is not proved, and says so."""
        task, wire = self.failing(client, "upmute", old, new)
        wire.bends["score"] = lambda *_: refused(500, "ResourceLoadFailed", "No model.")
        with one_line(AirflowFailException, "it does not give the new model's answers"):
            task.execute(context())


@pytest.mark.slow
class TestRollBack:
    """Putting the previous model back."""

    def failing(self, client: Client, endpoint: str, old: Any, new: Any) -> tuple[Any, Wire]:
        """An update whose new model is put in place but never proved."""
        added(client, endpoint)
        update(endpoint, old).execute(context())
        task = update(endpoint, new, proof_timeout=0.3, on_failure="rollback")
        wire = wired(task)
        wire.bends["score"] = lambda *_: refused(500, "ResourceLoadFailed", "No model.")
        return task, wire

    def test_put_back(self, client: Client, old: Any, new: Any) -> None:
        """The previous model is live again, and the sentence says so."""
        task, wire = self.failing(client, "uprollback", old, new)
        with one_line(AirflowFailException, "The previous model was put back:", path_of(OLD)):
            task.execute(context())
        assert live(client, "uprollback") == path_of(OLD)
        assert wire.journal.count("patch_endpoint") == 2

    def test_without_it_the_new_one_stays(self, client: Client, old: Any, new: Any) -> None:
        """Nothing is put back unless asked."""
        task, _ = self.failing(client, "upstays", old, new)
        task.on_failure = "keep"
        with one_line(AirflowFailException, "Nothing was put back."):
            task.execute(context())
        assert live(client, "upstays") == path_of(NEW)

    @pytest.mark.parametrize(
        ("name", "second", "said"),
        [
            (
                "uprollbusy",
                lambda *_: refused(503, "NoMoreResources", "Busy."),
                "could not be put back: patch_endpoint",
            ),
            ("uprollignored", ignoring, "but does not name it"),
        ],
    )
    def test_roll_back_fails(self, client: Client, old: Any, new: Any, name: str, second: Any, said: str) -> None:
        """A model that could not be put back is said, too."""
        task, wire = self.failing(client, name, old, new)
        patches = iter([lambda request, send: send(request)])
        wire.bends["patch_endpoint"] = lambda request, send: next(patches, second)(request, send)
        with one_line(AirflowFailException, said):
            task.execute(context())

    def test_unknown_previous_model(self, client: Client, new: Any) -> None:
        """Where the service does not say what was live, nothing can be put back."""
        added(client, "uprollnone")
        task = update("uprollnone", new, proof_timeout=0.3, on_failure="rollback")

        def silent(request: Request, send: Send) -> Response:
            response = send(request)
            if "uprollnone" not in request.url:
                return response
            return edited(response, Resources=[{"Name": "Bike Rental [trained model]", "Location": None}])

        wired(task).bends["get_endpoint"] = silent
        words = ("it still names no location as its model.", "location is unknown, so it could not be put back")
        with one_line(AirflowFailException, *words):
            task.execute(context())


class TestRaces:
    """The endpoint changes between our look and our PATCH."""

    CHANGED = staticmethod(lambda *_: refused(412, "EndpointChanged", "It was changed in between."))

    @pytest.mark.slow
    def test_looked_at_again(self, client: Client, new: Any) -> None:
        """A 412 makes the task look and decide again."""
        added(client, "uprace")
        task = update("uprace", new)
        wire = wired(task)
        wire.bends["patch_endpoint"] = once(self.CHANGED)
        assert task.execute(context())["proof"]["level"] == "content"
        assert wire.journal.count("patch_endpoint") == 2
        assert wire.journal.count("get_job") == 2

    @pytest.mark.slow
    def test_newer_model_in_between(self, client: Client, old: Any, new: Any) -> None:
        """A newer model that another run put in place in between stays: the real server's ``If-Match`` sees to it."""
        added(client, "upovertaken")
        task = update("upovertaken", old)

        def overtaken(request: Request, send: Send) -> Response:
            update("upovertaken", new).execute(context())
            return send(request)

        wired(task).bends["patch_endpoint"] = once(overtaken)
        with one_line(AirflowSkipException, "keeps its model"):
            task.execute(context())
        assert live(client, "upovertaken") == path_of(NEW)

    @pytest.mark.slow
    @pytest.mark.parametrize("only_if_newer", [True, False])
    def test_overtaken(
        self, client: Client, old: Any, new: Any, only_if_newer: bool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A newer model that is put live between PATCH and proof ends the wait: skipped, and the log says why."""
        name = f"upovertaken{'n' if only_if_newer else 'a'}"
        added(client, name)
        store, task = Store(), update(name, old, proof_timeout=600.0, only_if_newer=only_if_newer)

        def overtaken(request: Request, send: Send) -> Response:
            answer = send(request)
            update(name, new).execute(context())
            return answer

        wired(task).bends["patch_endpoint"] = once(overtaken)
        words = ("somebody else put", "up to 2026-03-02 00:00 UTC", "only up to 2026-03-01 00:00 UTC")
        with one_line(AirflowSkipException, *words):
            task.execute(context(store))
        assert "Skipped: While the update of endpoint" in capsys.readouterr().out
        assert live(client, name) == path_of(NEW)
        assert store.kept == {}

    @pytest.mark.slow
    def test_not_overtaken(self, client: Client, old: Any, new: Any) -> None:
        """A service that shows the model of before has not taken the update: that is no newer model."""
        added(client, "upnotovertaken")
        update("upnotovertaken", new).execute(context())
        task = update("upnotovertaken", old, only_if_newer=False, proof_timeout=0.3)
        wired(task).bends["patch_endpoint"] = lambda request, send: answer(200, {})
        with one_line(AirflowFailException, "it still names"):
            task.execute(context())

    @pytest.mark.slow
    def test_never_comes_to_rest(self, client: Client, new: Any) -> None:
        """An endpoint that changes every time is left alone at last."""
        added(client, "upbusy")
        task = update("upbusy", new)
        wire = wired(task)
        wire.bends["patch_endpoint"] = self.CHANGED
        with one_line(AirflowFailException, "changed by somebody else 5 times in a row; nothing was updated."):
            task.execute(context())
        assert wire.journal.count("patch_endpoint") == 5

    @pytest.mark.slow
    def test_lost_answer(self, client: Client, old: Any, new: Any) -> None:
        """A PATCH that came through, though its answer was lost, is proved as any other; nothing is sent twice."""
        added(client, "uplost")
        update("uplost", old).execute(context())
        task = update("uplost", new)
        wire = wired(task)

        def lost(request: Request, send: Send) -> Response:
            send(request)
            raise ServiceUnavailable("No answer (ReadTimeout)")

        wire.bends["patch_endpoint"] = once(lost)
        found = task.execute(context())
        assert wire.journal.count("patch_endpoint") == 1
        assert found["replaced"]["window_end"] == OLD.isoformat()
        assert found["proof"]["level"] == "content"

    def test_other_refusal(self, client: Client, old: Any, new: Any) -> None:
        """Any other refusal fails the task at once, and the old model stays live."""
        added(client, "upother")
        update("upother", old).execute(context())
        task = update("upother", new)
        wired(task).bends["patch_endpoint"] = lambda *_: refused(409, "ModelOutputMetadataMismatch", "Not like this.")
        with one_line(AirflowFailException, "patch_endpoint", "Not like this.", "HTTP 409"):
            task.execute(context())
        assert live(client, "upother") == path_of(OLD)

    def test_service_out_of_order(self, client: Client, old: Any, new: Any) -> None:
        """A service that cannot answer now fails this attempt only."""
        added(client, "updown")
        task = update("updown", new)
        wired(task).bends["patch_endpoint"] = lambda *_: refused(503, "NoMoreResources", "Busy.")
        with one_line(AirflowException, "patch_endpoint", "Busy."):
            task.execute(context())


def test_dates_are_utc() -> None:
    """The days of this module are in UTC."""
    assert {day.tzinfo for day in (OLD, NEW, NEXT)} == {UTC}


class TestRehearsal:
    """What both models answer to the last calls of the endpoint, before anything is put live."""

    @pytest.mark.slow
    def test_it_stops_the_update_or_is_told(self, server: ServerProcess, client: Client, old: Any, new: Any) -> None:
        """Over a limit the endpoint keeps its model, and nothing is sent to put another there; without a limit, figures
        that are unusual are a warning, and in the receipt, the event and the notification."""
        endpoint = added(client, "uprehearsed")
        update(endpoint.name, old).execute(context())
        keep_calls(server, endpoint, 100)
        client.score(endpoint, [{**NOON, "hr": n % 24, "temp": n % 10 / 10} for n in range(60)])
        task = update(endpoint.name, new, max_change=0.5)
        wire = wired(task)
        with pytest.raises(AirflowSkipException, match=r"keeps its model: .*100\.0 %, over the 50\.0 %.*on 60 rows"):
            task.execute(context())
        assert "patch_endpoint" not in wire.journal
        assert live(client, endpoint.name) == path_of(OLD)
        task = update(endpoint.name, new)
        with patch.object(task.log, "warning") as warned:
            receipt = task.execute(context())
        text = receipt["rehearsal"]["text"]
        assert text in warned.call_args.args
        assert (receipt["rehearsal"]["unusual"], receipt["rehearsal"]["figures"]["changed"]) == (True, 1.0)
        assert event_extra(receipt)["rehearsal"] == text
        assert f"{text} That is unusual" in receipt_text(receipt)
        assert "Rehearsed on" not in receipt_text({**receipt, "rehearsal": None})

    @pytest.mark.slow
    def test_where_there_is_nothing_to_rehearse_on(self, client: Client, old: Any) -> None:
        """That is said, and the update goes on; a task that requires a rehearsal fails, and changes nothing."""
        added(client, "upunrehearsed")
        with pytest.raises(AirflowFailException, match="no calls are kept of endpoint 'upunrehearsed'"):
            update("upunrehearsed", old, rehearsal="require").execute(context())
        assert live(client, "upunrehearsed") != path_of(OLD)
        receipt = update("upunrehearsed", old).execute(context())
        assert "not rehearsed: no calls are kept" in receipt["rehearsal"]["text"]
        assert receipt_text(receipt).endswith(" s.")

    @pytest.mark.slow
    def test_a_service_without_rehearsals(self, client: Client, old: Any) -> None:
        """Another service does not know the call: the update goes on, unless a rehearsal is required."""
        added(client, "upelsewhere")
        for mode, error in (("require", AirflowFailException), ("auto", None)):
            task = update("upelsewhere", old, rehearsal=mode, max_change=0.1)
            wired(task).bends["rehearse_update"] = lambda *_: refused(404, "PageNotFound", "There is nothing here.")
            if error:
                with pytest.raises(error, match="offers no call that rehearses"):
                    task.execute(context())
            else:
                assert "offers no call" in task.execute(context())["rehearsal"]["text"]

    @pytest.mark.parametrize("limit", [-1, True, "much", {"labels": 0.1}, {"changed": "5%"}])
    def test_limits_that_cannot_be_meant(self, limit: Any) -> None:
        """They are named before anything is asked of the service."""
        with pytest.raises(ValueError, match="max_change"):
            update("any", {}, max_change=limit)._placing()
        with pytest.raises(ValueError, match="needs a rehearsal"):
            update("any", {}, max_change=0.1, rehearsal="off")._placing()
