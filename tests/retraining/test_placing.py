"""Putting a model live, on a service of canned answers: what is sent in which order, and what is made of each answer.

``tests/simulation`` has the orders in which answers can come; here each decision stands by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import (
    AzureMLClassicError,
    RequestRejected,
    ServiceUnavailable,
    UpdateNotProved,
)
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.references import BlobReference, ToldWindow
from airflow_provider_azureml_classic.protocol.rehearsal import Rehearsal
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, Resource, WebService
from airflow_provider_azureml_classic.retraining import placing as placing_module
from airflow_provider_azureml_classic.retraining.evaluation import GoldenRows
from airflow_provider_azureml_classic.retraining.freshness import Window
from airflow_provider_azureml_classic.retraining.jobs import JobTicket
from airflow_provider_azureml_classic.retraining.placing import (
    RACES,
    Candidate,
    Overtaken,
    Placing,
    Target,
    Update,
    find_target,
    find_updatable,
)
from airflow_provider_azureml_classic.retraining.proof import ROUNDS, Level, Patch
from airflow_provider_azureml_classic.retraining.rehearsing import AUTO, Rehearsing
from tests.support.programs import Script

CLIENT: Any = SimpleNamespace()
DAY = datetime(2026, 3, 1, tzinfo=UTC)
SERVICE = WebService("s", "Bikes")
OLD, NEW = BlobReference("m/old.ilearner", "http://own/"), BlobReference("m/new.ilearner", "http://own/")
OTHER = BlobReference("m/other.ilearner", "http://own/")
A, B, C = (Digests(letter * 64, letter * 63 + "0") for letter in "abc")
ROWS = Table(("x",), [[1]])
GOLDEN = GoldenRows(ROWS, Table(("Scored Labels",), [[5.0]]))
RIGHT, WRONG = (Table(("Scored Labels", "x"), [[number, 1]]) for number in (5.0, 7.0))
STALE = RequestRejected("changed", status=412)
LOST = ServiceUnavailable("no answer")
JOB = JobTicket("s", "default", "0" * 32)


def endpoint(location: BlobReference | None = OLD, digests: Digests | None = None, **more: Any) -> Endpoint:
    """An endpoint with this model, and another one."""
    resource = Resource("r", location, digests=digests, window=ToldWindow(more.pop("end", None)))
    members = {"version": "1", **more}
    return Endpoint("e", "s", resources=(Resource("q", BlobReference("m/q.ilearner")), resource), **members)


def target(location: BlobReference | None = OLD, digests: Digests | None = None, **more: Any) -> Target:
    """What is updated, as it was read."""
    row = endpoint(location, digests, **more)
    return Target(SERVICE, row, row.resources[1])


def placing(log: list[str] | None = None, **options: Any) -> Placing:
    """How models are put live; a reference is readable with a token."""
    lines = log if log is not None else []
    return Placing(CLIENT, lambda place: replace(place, sas_token="?t"), lines.append, **options)


def find(*targets: Target, candidate: Candidate | None = None) -> Callable[[], Any]:
    """Reads these targets, one after another."""
    left = list(targets)

    def program() -> Any:
        yield from ()
        return left.pop(0) if len(left) > 1 else left[0], candidate or Candidate(NEW, Window(DAY), JOB)

    return program


def names(script: Script) -> list[str]:
    """The verbs that were called."""
    return [name for name, _ in script.calls]


# -- what is updated ---------------------------------------------------------------------------------------------------


def test_find_target() -> None:
    """Service by name or id, endpoint by its name, the only resource or the named one."""
    row = replace(endpoint(), resources=(Resource("r", OLD),))
    script = Script(find_web_service=[SERVICE], get_endpoint=[row])
    assert script.perform(find_target(CLIENT, "Bikes", "e", None)) == Target(SERVICE, row, row.resources[0])
    assert script.calls == [
        ("find_web_service", {"name_or_id": "Bikes"}),
        ("get_endpoint", {"service_id": "s", "name": "e"}),
    ]
    assert script.perform(find_target(CLIENT, "Bikes", "e", "r")).resource.name == "r"
    with pytest.raises(RequestRejected):
        script.perform(find_target(CLIENT, "Bikes", "e", "q"))


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (replace(endpoint(), name="default"), "DefaultEndpointReadOnly"),
        (replace(endpoint(), name="first"), "DefaultEndpointReadOnly"),
        (replace(endpoint(), resources=()), "NoUpdatableResources"),
    ],
)
def test_what_cannot_be_updated(row: Endpoint, code: str) -> None:
    """The default endpoint, by its usual name or the service's, and one without resources."""
    service = replace(SERVICE, default_endpoint_name="first")
    with pytest.raises(RequestRejected) as caught:
        Script(find_web_service=[service], get_endpoint=[row]).perform(find_updatable(CLIENT, "Bikes", row.name))
    assert caught.value.detail_code == code


# -- the PATCH ---------------------------------------------------------------------------------------------------------


def test_what_is_sent() -> None:
    """The place, the file that is meant, the window, who agreed, and the state that was read."""
    approval: Any = SimpleNamespace()
    patch = Patch("r", NEW, model=A, window_end=DAY.isoformat())
    script = Script(patch_endpoint=[None])
    script.perform(placing(approval=approval).put(target(etag="7"), patch))
    ((name, given),) = script.calls
    assert name == "patch_endpoint"
    assert given == {
        "endpoint": endpoint(etag="7"),
        "settings": EndpointSettings(resources=(Resource("r", NEW),)),
        "if_match": "7",
        "model_file": A.file,
        "approval": approval,
        "purpose": Purpose(end=DAY),
    }
    script.perform(placing().put(target(), Patch("r", NEW)))
    assert (script.calls[1][1]["model_file"], script.calls[1][1]["purpose"]) == (None, None)


@pytest.mark.parametrize(
    ("error", "after", "raises"),
    [
        # The answer was lost, and the endpoint names the model in another state: it succeeded.
        (LOST, endpoint(NEW, version="2"), None),
        (LOST, endpoint(NEW), ServiceUnavailable),
        (LOST, endpoint(OLD, version="2"), ServiceUnavailable),
        # The same, where the transport sent it twice and the second one came too late.
        (STALE, endpoint(NEW, version="2"), None),
        (STALE, endpoint(NEW, version="2", end=DAY), None),
        # Somebody else put the very same file live as that of another window.
        (STALE, endpoint(NEW, version="2", end=DAY.replace(day=2)), Exception),
        (STALE, endpoint(OLD, version="2"), Exception),
        (LOST, endpoint(NEW, version="2", end=DAY.replace(day=2)), None),
        (RequestRejected("no", status=400), None, RequestRejected),
    ],
)
def test_an_answer_that_is_lost(error: AzureMLClassicError, after: Endpoint | None, raises: Any) -> None:
    """Whether a PATCH succeeded is read from the endpoint; a refusal is one, and nothing is read."""
    script = Script(patch_endpoint=[error], get_endpoint=[after])
    program = placing().put(target(), Patch("r", NEW, version="1", window_end=DAY.isoformat()))
    if raises is None:
        script.perform(program)
    else:
        with pytest.raises(raises) as caught:
            script.perform(program)
        # A change in between is a reason to read again, and no error of the service.
        assert isinstance(caught.value, AzureMLClassicError) is not (error is STALE)
    assert names(script) == ["patch_endpoint", "get_endpoint"][: 1 if after is None else 2]


# -- what is remembered before it --------------------------------------------------------------------------------------


def begun(where: Target, candidate: Candidate, earlier: Patch | None = None, **answers: Any) -> Patch:
    """What is remembered before a PATCH."""
    return Script(**answers).perform(placing(proof_timeout=60).begin(where, candidate, earlier))


def test_what_is_remembered() -> None:
    """What is replaced: place, digests, end of its window, its answers; and what has to be seen, until when."""
    candidate = Candidate(NEW, Window(DAY), golden=GOLDEN, digests=A)
    before = time.time()
    patch = begun(target(OLD, B, etag="7", end=DAY.replace(day=2)), candidate, score_by=[(WRONG, "x")])
    assert before <= patch.patched_at <= time.time()
    assert patch.deadline == pytest.approx(patch.patched_at + 60)
    assert replace(patch, patched_at=0.0, deadline=0.0) == Patch(
        "r",
        NEW,
        Level.CONTENT,
        OLD,
        Table(("Scored Labels",), [[7.0]]),
        "1",
        "7",
        window_end=DAY.isoformat(),
        model=A,
        replaced_model=B,
        replaced_end="2026-03-02T00:00:00+00:00",
    )
    bare = begun(target(), Candidate(NEW, None))
    assert (bare.level, bare.replaced, bare.window_end, bare.replaced_end) == (Level.RESOURCE, OLD, None, None)


def test_what_an_earlier_attempt_replaced() -> None:
    """That counts as replaced, and not the model of the attempt itself."""
    earlier = Patch("r", NEW, replaced=OTHER, answers=ROWS, replaced_model=C, replaced_end="2026-01-01")
    where, candidate = target(OLD, B, end=DAY), Candidate(NEW, Window(DAY), golden=GOLDEN, digests=A)
    patch = begun(where, candidate, earlier, score_by=[(WRONG, "x")])
    assert (patch.replaced, patch.answers, patch.replaced_model, patch.replaced_end) == (OTHER, ROWS, C, "2026-01-01")


@pytest.mark.parametrize(("live", "known"), [(A, False), (None, False), (B, True)])
def test_a_place_that_is_written_again(live: Digests | None, known: bool) -> None:
    """What lay there before is gone, unless the service tells that it has another model from there."""
    patch = begun(target(NEW, live, end=DAY), Candidate(NEW, None, golden=GOLDEN, digests=A), score_by=[(WRONG, "x")])
    kept = patch.replaced, patch.answers, patch.replaced_model, patch.replaced_end
    assert [one is not None for one in kept] == [known] * 4


GOLDEN_ONLY, TOLD = Candidate(NEW, None, golden=GOLDEN), Candidate(NEW, None, digests=A)
BOTH = replace(TOLD, golden=GOLDEN)


@pytest.mark.parametrize(
    ("proof", "where", "candidate", "answer", "level"),
    [
        ("resource", target(OLD, B, etag="7"), BOTH, None, Level.RESOURCE),
        ("version", target(OLD, B, etag="7"), BOTH, None, Level.VERSION),
        ("strongest", target(OLD, B), TOLD, None, Level.CONTENT),
        ("content", target(OLD, B), BOTH, WRONG, Level.CONTENT),
        ("score", target(OLD, B), BOTH, WRONG, Level.SCORE),
        ("score", target(OLD), GOLDEN_ONLY, LOST, Level.SCORE),
        ("strongest", target(OLD), BOTH, WRONG, Level.SCORE),
        ("strongest", target(OLD, B), GOLDEN_ONLY, WRONG, Level.SCORE),
        ("strongest", target(OLD, B), replace(TOLD, digests=Digests("a" * 64)), None, Level.RESOURCE),
        ("strongest", target(OLD), GOLDEN_ONLY, RIGHT, Level.RESOURCE),
        ("strongest", target(OLD, etag="7"), GOLDEN_ONLY, RIGHT, Level.VERSION),
        ("strongest", target(OLD, etag="7"), Candidate(NEW, None), None, Level.VERSION),
    ],
)
def test_the_level_of_proof(proof: str, where: Target, candidate: Candidate, answer: Any, level: Level) -> None:
    """The strongest that can be reached, or the one that is asked for; a weak one is explained in the log."""
    log: list[str] = []
    script = Script(score_by=[answer if isinstance(answer, Exception) else (answer, "x")])
    assert script.perform(placing(log, proof=proof).begin(where, candidate)).level is level
    weak = proof == "strongest" and level in (Level.RESOURCE, Level.VERSION)
    assert any("cannot be proved by scoring" in line for line in log) is weak
    assert names(script) == ["score_by"] * (answer is not None)
    for _, given in script.calls:
        assert (given["endpoint"], given["rows"], given["trial"]) == (where.endpoint, ROWS, True)


@pytest.mark.parametrize(
    ("proof", "where", "candidate", "words"),
    [
        ("score", target(OLD), GOLDEN_ONLY, "the live model gives the same answers"),
        ("score", target(OLD, B), TOLD, "there are no golden rows"),
        ("content", target(OLD), BOTH, "the digests of the models"),
        ("best", target(), TOLD, "proof is 'best'"),
    ],
)
def test_a_level_that_cannot_be_reached(proof: str, where: Target, candidate: Candidate, words: str) -> None:
    """It is refused before anything is changed."""
    with pytest.raises(ValueError, match=words):
        Script(score_by=[(RIGHT, "x")]).perform(placing(proof=proof).begin(where, candidate))


# -- the whole ---------------------------------------------------------------------------------------------------------


def test_a_model_is_put_live() -> None:
    """What must be remembered is remembered before the PATCH, as the check is asked before."""
    order: list[Any] = []

    def check(where: Target, candidate: Candidate) -> Any:
        yield from ()
        order.append((where, candidate.location))

    script = Script(patch_endpoint=[lambda **_: order.append("patch")])
    where = target()
    update = script.perform(placing().place(find(where), check=check, remember=order.append))
    assert isinstance(update, Update)
    assert order == [(where, NEW), update.patch, "patch"]
    assert (update.target, update.candidate, update.patch.location) == (where, Candidate(NEW, Window(DAY), JOB), NEW)
    assert update.patch.rehearsal is None


def test_a_check_stops_it() -> None:
    """Its reason is returned, and nothing is sent or remembered."""

    def check(_: Target, __: Candidate) -> Any:
        yield from ()
        return "Too old."

    kept: list[Patch] = []
    assert Script().perform(placing().place(find(target()), check=check, remember=kept.append)) == "Too old."
    assert kept == []


def test_somebody_else_changes_the_endpoint() -> None:
    """It is read again, each time, and given up after some; nothing was updated then."""
    log: list[str] = []
    script = Script(patch_endpoint=[STALE, None], get_endpoint=[endpoint(OTHER, version="2")])
    later = target(OTHER, version="2")
    update = script.perform(placing(log).place(find(target(), later)))
    assert isinstance(update, Update)
    assert (update.target, update.patch.replaced, update.patch.version) == (later, OTHER, "2")
    assert "Endpoint 'e' changed in between; reading it again." in log
    script = Script(patch_endpoint=[STALE], get_endpoint=[endpoint(OTHER, version="2")])
    with pytest.raises(UpdateNotProved, match=f"{RACES} times in a row; nothing was updated"):
        script.perform(placing().place(find(target())))
    assert names(script).count("patch_endpoint") == RACES


@pytest.mark.parametrize("failed", [False, True])
def test_an_attempt_that_goes_on(failed: bool) -> None:
    """What an earlier attempt put live is not sent again, with a new deadline; one without proof is sent again."""
    log: list[str] = []
    earlier = Patch("r", NEW, replaced=OLD, failed=failed, deadline=5.0, rehearsal={"text": "x"})
    script = Script(patch_endpoint=[None])
    where = target(NEW)
    update = script.perform(placing(log, proof_timeout=60).place(find(where), earlier=earlier))
    assert isinstance(update, Update)
    assert len(script.calls) == failed
    assert update.patch.deadline == pytest.approx(time.time() + 60, abs=30)
    assert (update.target, update.candidate) == (where, Candidate(NEW, Window(DAY), JOB))
    assert (update.patch.replaced, update.patch.rehearsal) == (OLD, {"text": "x"})
    assert any("An earlier attempt" in line for line in log) is not failed


KNOWN = Candidate(NEW, Window(DAY), JOB, digests=A)


@pytest.mark.parametrize(
    ("candidate", "where", "answer", "kept"),
    [
        (KNOWN, target(OLD, A), (WRONG, A.content), True),
        (KNOWN, target(OLD, A), (WRONG, B.content), False),
        (KNOWN, target(OLD, A), (WRONG, None), False),
        (KNOWN, target(OLD, A), LOST, False),
        (KNOWN, target(OLD, B), (WRONG, A.content), False),
        (KNOWN, target(NEW, A), (WRONG, A.content), False),
        (replace(KNOWN, job=None), target(OLD, A), (WRONG, A.content), False),
        (replace(KNOWN, digests=None), target(OLD, A), (WRONG, A.content), False),
        (replace(KNOWN, digests=Digests(A.file)), target(OLD, A), (WRONG, None), False),
    ],
)
def test_the_very_model_that_is_live(candidate: Candidate, where: Target, answer: Any, kept: bool) -> None:
    """A training that gives it again names its place and its window, if the model is seen to answer."""
    script = Script(patch_endpoint=[None], score_by=[answer])
    remembered: list[Patch] = []
    update = script.perform(placing().place(find(where, candidate=candidate), remember=remembered.append))
    assert isinstance(update, str) is kept
    given = script.calls[-1][1]
    assert given["settings"].resources == (Resource("r", NEW),)
    assert given["purpose"] == Purpose(end=DAY)
    assert given["model_file"] == (candidate.digests.file if candidate.digests else None)
    assert bool(remembered) is not kept


def test_the_answer_to_the_naming_of_a_place_is_lost() -> None:
    """Whether it succeeded is read from the endpoint, as with any update."""
    script = Script(patch_endpoint=[LOST], get_endpoint=[endpoint(NEW, A)], score_by=[(WRONG, A.content)])
    assert isinstance(script.perform(placing().place(find(target(OLD, A), candidate=KNOWN))), str)


def test_the_live_model_is_seen_to_answer_the_golden_rows() -> None:
    """Where there are any."""
    script = Script(patch_endpoint=[None], score_by=[(WRONG, A.content)])
    candidate = replace(KNOWN, golden=GOLDEN)
    assert isinstance(script.perform(placing().place(find(target(OLD, A), candidate=candidate))), str)
    assert (script.calls[0][1]["endpoint"], script.calls[0][1]["rows"]) == (endpoint(OLD, A), ROWS)


@pytest.mark.parametrize(
    ("changed", "limits", "stopped", "warned"),
    [(0.05, {}, False, False), (0.5, {}, False, True), (0.5, {"changed": 0.1}, True, False)],
)
def test_a_rehearsal(changed: float, limits: dict[str, float], stopped: bool, warned: bool) -> None:
    """It is told; an unusual one as a warning; one beyond its limits stops the update."""
    log, warnings = list[str](), list[str]()
    script = Script(rehearse_update=[Rehearsal(3, 30, changed=changed)], patch_endpoint=[None])
    where = target(OLD, B)
    how = placing(log, rehearsing=Rehearsing(AUTO, limits), warn=warnings.append)
    update = script.perform(how.place(find(where, candidate=TOLD)))
    rehearsal = {"endpoint": where.endpoint, "resource": Resource("r", NEW), "model_file": A.file}
    assert script.calls[0] == ("rehearse_update", rehearsal)
    assert [line.startswith("Rehearsed on 30 rows") for line in warnings] == [True] * warned
    assert any(line.startswith("Rehearsed on 30 rows") for line in log) is (not stopped and not warned)
    assert isinstance(update, str) is stopped
    if isinstance(update, str):
        assert names(script) == ["rehearse_update"]
        return
    assert update.patch.rehearsal is not None
    assert update.patch.rehearsal["unusual"] is warned
    # Without anybody to warn, the log takes it.
    script.perform(replace(how, warn=None).place(find(where, candidate=TOLD)))
    assert any(line.startswith("Rehearsed on 30 rows") for line in log)


@pytest.mark.parametrize(
    ("where", "candidate", "level", "sent"),
    [
        (target(OLD), Candidate(NEW, None), Level.RESOURCE, True),
        (target(NEW), GOLDEN_ONLY, Level.SCORE, False),
        (target(NEW, A), BOTH, Level.CONTENT, False),
        (target(NEW, B), TOLD, Level.CONTENT, True),
    ],
)
def test_trying_out(where: Target, candidate: Candidate, level: Level, sent: bool) -> None:
    """An endpoint that has the model already is not sent it again; one whose place has another model is."""
    script = Script(patch_endpoint=[None])
    update = script.perform(placing().try_out(find(where, candidate=candidate)))
    assert update == Update(where, candidate, Patch("r", NEW, level, model=candidate.digests))
    assert names(script) == ["patch_endpoint"] * sent


def test_trying_out_where_somebody_else_does_too() -> None:
    """The endpoint is read again, and that is told."""
    log: list[str] = []
    script = Script(patch_endpoint=[STALE, None], get_endpoint=[endpoint(OTHER, version="2")])
    script.perform(placing(log).try_out(find(target(), candidate=Candidate(NEW, None))))
    assert log == ["Endpoint 'e' changed in between; reading it again."]


# -- the proof ---------------------------------------------------------------------------------------------------------


def update(level: Level = Level.RESOURCE, *, golden: GoldenRows | None = None, **members: Any) -> Update:
    """An update whose PATCH was sent."""
    patch = Patch("r", NEW, level, replaced=OLD, version="1", deadline=time.time() + 60, **members)
    return Update(target(), Candidate(NEW, Window(DAY), JOB, golden), patch)


@pytest.mark.parametrize(
    ("level", "after", "answers", "words"),
    [
        (Level.RESOURCE, endpoint(NEW), [], None),
        (Level.RESOURCE, endpoint(OLD), [], "it still names http://own/m/old.ilearner"),
        (Level.RESOURCE, endpoint(None), [], "it still names no location"),
        (Level.RESOURCE, LOST, [], "the endpoint could not be read"),
        (Level.VERSION, endpoint(NEW, version="2"), [], None),
        (Level.VERSION, endpoint(NEW), [], "its version is still 1"),
        (Level.SCORE, endpoint(NEW), [(RIGHT, None)], None),
        (Level.SCORE, endpoint(NEW), [(RIGHT, None), (RIGHT, None), (WRONG, None)], "answers to the golden rows"),
        (Level.SCORE, endpoint(NEW), [LOST], "answers to the golden rows"),
        (Level.SCORE, endpoint(NEW), None, "the golden rows to prove it with no longer exist"),
        (Level.CONTENT, endpoint(NEW, A), [(RIGHT, A.content)], None),
        (Level.CONTENT, endpoint(NEW, A), None, None),
        (Level.CONTENT, endpoint(NEW, B), [(RIGHT, A.content)], "another model is live from http://own/m/new.ilearner"),
        (Level.CONTENT, endpoint(NEW, A), [(RIGHT, A.content)] * 2 + [(RIGHT, B.content)], "another model gives its"),
        (Level.CONTENT, endpoint(NEW, A), [(WRONG, A.content)], "answers to the golden rows"),
    ],
)
def test_each_proof(level: Level, after: Any, answers: list[Any] | None, words: str | None) -> None:
    """What is missing is said; right answers count only so many times in a row."""
    golden, no_rows = GOLDEN if answers is not None else None, Table((), [])
    script = Script(get_endpoint=[after], score_by=answers or [(no_rows, A.content)])
    missing = script.perform(placing().missing(endpoint(), golden, update(level, model=A).patch))
    assert (missing is None) is (words is None)
    assert words is None or (missing is not None and words in missing)
    assert script.calls[0] == ("get_endpoint", {"service_id": "s", "name": "e"})
    if words is None and level.is_scored:
        assert names(script).count("score_by") == ROUNDS
        assert script.calls[1][1]["rows"] == (ROWS if golden else no_rows)
        assert (script.calls[1][1]["endpoint"], script.calls[1][1]["trial"]) == (after, True)


def test_a_refusal_ends_the_proof() -> None:
    """An error that a repetition does not mend is raised."""
    with pytest.raises(RequestRejected):
        Script(get_endpoint=[RequestRejected("no")]).perform(placing().missing(endpoint(), None, update().patch))


@pytest.mark.parametrize(
    ("live", "end", "own", "overtaken"),
    [
        (OTHER, DAY, DAY, True),
        (OTHER, DAY.replace(day=2), DAY, True),
        (OTHER, DAY, DAY.replace(day=2), False),
        (OTHER, None, DAY, False),
        (OTHER, DAY, None, False),
        (NEW, DAY.replace(day=2), DAY, False),
        (OLD, DAY.replace(day=2), DAY, False),
        (None, DAY.replace(day=2), DAY, False),
    ],
)
def test_overtaken(live: BlobReference | None, end: datetime | None, own: datetime | None, overtaken: bool) -> None:
    """Another model that is as new, or newer, ends the wait at once; an older one, or the one before, does not."""
    patch = update(window_end=own.isoformat() if own else None).patch
    program = placing().missing(endpoint(), None, patch)
    script = Script(get_endpoint=[endpoint(live, end=end)])
    if not overtaken:
        script.perform(program)
        return
    with pytest.raises(Overtaken, match=r"http://own/m/other\.ilearner live") as caught:
        script.perform(program)
    assert ("so was this one" in str(caught.value)) is (end == own)


def test_a_proof_is_waited_for() -> None:
    """Pauses grow to two seconds, and never go beyond the deadline; then what is missing is returned."""
    log: list[str] = []
    sent = update()
    script = Script(get_endpoint=[*[endpoint(OLD)] * 6, endpoint(NEW)])
    assert script.perform(placing(log).wait(sent, time.time() + 1000)) is None
    assert script.pauses == [pytest.approx(seconds, rel=0.1001) for seconds in (0.2, 0.4, 0.8, 1.6, 2, 2)]
    assert log == ["Proved by resource: http://own/m/new.ilearner is live on endpoint 'e'."]


def test_no_pause_is_longer_than_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """And there is none where nothing is left."""
    monkeypatch.setattr(placing_module, "time", SimpleNamespace(time=lambda: 100.0))
    script = Script(get_endpoint=[endpoint(OLD)])
    assert script.perform(placing().wait(update(), 100.0)) is not None
    assert script.pauses == []
    script = Script(get_endpoint=[endpoint(OLD), endpoint(NEW)])
    assert script.perform(placing().wait(update(), 100.1)) is None
    assert script.pauses == [pytest.approx(0.1)]
    scored = update(Level.SCORE, golden=GOLDEN)
    assert Script(get_endpoint=[endpoint(NEW)], score_by=[(RIGHT, None)]).perform(placing().wait(scored, 100.0)) is None


def test_no_proof() -> None:
    """After the deadline the error says what is missing, and that nothing was put back, or what became of that."""
    sent = update()
    late = replace(sent, patch=replace(sent.patch, deadline=time.time() - 1))
    script = Script(get_endpoint=[endpoint(OLD)])
    with pytest.raises(UpdateNotProved, match=r"'r' on endpoint 'e', but after 9 s it still names .* Nothing was") as e:
        script.perform(placing(proof_timeout=9).prove(late))
    assert not e.value.put_back
    script = Script(get_endpoint=[endpoint(NEW), endpoint(OLD)], patch_endpoint=[None])
    error = script.perform(placing(on_failure="rollback").failure(sent, "it is not."))
    assert error.put_back
    assert "was put back" in str(error)
    Script(get_endpoint=[endpoint(NEW)]).perform(placing().prove(sent))


# -- putting back ------------------------------------------------------------------------------------------------------


def test_the_previous_model_is_put_back() -> None:
    """By its place, with a token, its digests and its window, in the state that is there now."""
    sent = update(replaced_model=B, replaced_end="2026-02-01T00:00:00+00:00")
    script = Script(get_endpoint=[endpoint(NEW, A, etag="9"), endpoint(OLD, B)], patch_endpoint=[None])
    sentence, is_back = script.perform(placing().roll_back(sent))
    assert is_back
    assert OLD.location in sentence
    assert script.calls[1] == (
        "patch_endpoint",
        {
            "endpoint": sent.target.endpoint,
            "settings": EndpointSettings(resources=(Resource("r", replace(OLD, sas_token="?t")),)),
            "if_match": "9",
            "model_file": B.file,
            "approval": None,
            "purpose": Purpose(end=datetime(2026, 2, 1, tzinfo=UTC)),
        },
    )


@pytest.mark.parametrize(
    ("now", "after", "words"),
    [
        (endpoint(OTHER), None, "Somebody else has put http://own/m/other.ilearner live"),
        (endpoint(NEW, A), endpoint(NEW, A), "does not name it"),
        (endpoint(NEW, A), endpoint(OLD, C), "Another model than the previous one"),
        (LOST, None, "could not be put back: no answer"),
    ],
)
def test_what_keeps_it_from_being_put_back(now: Any, after: Any, words: str) -> None:
    """Each is said, and the model is not called back."""
    script = Script(get_endpoint=[now, after], patch_endpoint=[None])
    sentence, is_back = script.perform(placing().roll_back(update(replaced_model=B)))
    assert not is_back
    assert words in sentence


@pytest.mark.parametrize("now", [endpoint(OLD, A), endpoint(None, A)])
def test_a_model_that_may_be_put_back(now: Endpoint) -> None:
    """Where the previous one is there already, or none, too."""
    script = Script(get_endpoint=[now, endpoint(OLD)], patch_endpoint=[None])
    assert script.perform(placing().roll_back(update()))[1]


def test_an_unknown_place_is_not_put_back() -> None:
    """Nothing is asked then."""
    sent = update()
    unknown = replace(sent, patch=replace(sent.patch, replaced=None))
    sentence, is_back = Script().perform(placing().roll_back(unknown))
    assert (is_back, "location is unknown" in sentence) == (False, True)


@pytest.mark.parametrize(
    ("model", "live", "place", "digest", "words"),
    [
        (B, None, OLD, B.file, None),
        (B, None, OLD, C.file, "http://own/m/old.ilearner holds another model now"),
        (B, A, OLD, C.file, None),
        (None, None, OLD, C.file, None),
        (Digests(None, "b" * 64), None, OLD, C.file, None),
        (B, None, BlobReference("m/old.ilearner"), C.file, None),
    ],
)
def test_a_place_that_was_overwritten(model: Any, live: Any, place: BlobReference, digest: str, words: Any) -> None:
    """Where the service does not tell its models, the file is looked at, if its digest is known and it can be read."""
    script = Script(blob_facts=[SimpleNamespace(sha256=digest)])
    reason = script.perform(placing().changed(place, model, Resource("r", NEW, digests=live)))
    assert (reason is None) is (words is None)
    assert words is None or (reason is not None and words in reason)
    asked = model is not None and model.file is not None and live is None and bool(place.base_location)
    assert script.calls == [("blob_facts", {"reference": place})] * asked


def test_a_place_that_was_overwritten_is_not_put_back() -> None:
    """The reason is told, and nothing is sent."""
    script = Script(get_endpoint=[endpoint(NEW)], blob_facts=[SimpleNamespace(sha256=C.file)])
    sentence, is_back = script.perform(placing().roll_back(update(replaced_model=B)))
    assert (is_back, "holds another model now" in sentence) == (False, True)
    assert script.calls[1] == ("blob_facts", {"reference": replace(OLD, sas_token="?t")})


@pytest.mark.parametrize(
    ("patch", "goes_on"),
    [
        (Patch("r", NEW, replaced=OLD), True),
        (Patch("r", NEW), True),
        # A place that is written again: which model it had is told by digests alone.
        (Patch("r", NEW, replaced=NEW), False),
        (Patch("r", OLD, replaced=OLD), False),
        (None, False),
    ],
)
def test_which_attempt_goes_on(patch: Patch | None, goes_on: bool) -> None:
    """One that put this model live, as the endpoint says, of whatever resources it has more."""
    assert (target(NEW).earlier(patch, Candidate(NEW, None)) is not None) is goes_on


def test_an_update_without_proof_is_not_rehearsed_again() -> None:
    """What it would change has been said, before it was sent for the first time."""
    earlier = Patch("r", NEW, replaced=OLD, failed=True)
    script = Script(patch_endpoint=[None])
    how = placing(rehearsing=Rehearsing(AUTO))
    script.perform(how.place(find(target(NEW, A)), earlier=earlier))
    assert names(script) == ["patch_endpoint"]
