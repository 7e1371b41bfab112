"""Which of two models is the newer one: by the ends of their windows, by their data, by when they were trained."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.references import BlobReference, ToldWindow
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource, WebService
from airflow_provider_azureml_classic.retraining.freshness import Window
from airflow_provider_azureml_classic.retraining.order import older_than_live
from airflow_provider_azureml_classic.retraining.placing import Candidate, Overtaken, Placing, Target, Update
from airflow_provider_azureml_classic.retraining.proof import Patch

PATH = BlobReference("models/one.ilearner")
DAYS = [datetime(2026, 3, 1, tzinfo=UTC) + timedelta(days=day) for day in range(4)]


def decided(
    live: ToldWindow | None, told: ToldWindow | None, end: datetime | None, unknown: str | None = None
) -> tuple[str | None, list[str]]:
    """The reason to keep the live model, and what is logged."""
    target = Target(WebService("s", "s"), Endpoint("e"), Resource("m", PATH, window=live))
    candidate = Candidate(PATH, Window(end) if end else None, told=told)
    lines: list[str] = []
    return older_than_live(target, candidate, unknown, lines.append), lines


@pytest.mark.parametrize(
    ("live", "told", "end", "reason"),
    [
        (ToldWindow(DAYS[1]), None, DAYS[2], None),
        (ToldWindow(DAYS[1]), None, DAYS[1], None),
        (ToldWindow(DAYS[1]), None, DAYS[0], "up to 2026-03-02 00:00 UTC, this one only up to 2026-03-01"),
        # An end is an end: what the data tell does not count beside it.
        (ToldWindow(DAYS[1], last=DAYS[3]), ToldWindow(last=DAYS[0]), DAYS[2], None),
        # Of the same window: by when they were trained, if both are known.
        (ToldWindow(DAYS[1], trained_at=DAYS[2]), ToldWindow(trained_at=DAYS[3]), DAYS[1], None),
        (ToldWindow(DAYS[1], trained_at=DAYS[2]), ToldWindow(trained_at=DAYS[2]), DAYS[1], None),
        (ToldWindow(DAYS[1], trained_at=DAYS[3]), ToldWindow(trained_at=DAYS[2]), DAYS[1],
         "the live one at 2026-03-04 00:00 UTC, this one earlier, at 2026-03-03 00:00 UTC"),
        (ToldWindow(DAYS[1], trained_at=DAYS[3]), ToldWindow(), DAYS[1], None),
        (ToldWindow(DAYS[1], trained_at=DAYS[3]), ToldWindow(trained_at=DAYS[2]), DAYS[2], None),
        # No end of one of them: by the last times in their data, compared with their own kind only.
        (ToldWindow(last=DAYS[2]), ToldWindow(last=DAYS[1]), DAYS[3], "data go up to 2026-03-03 00:00 UTC"),
        (ToldWindow(last=DAYS[2]), ToldWindow(last=DAYS[2]), DAYS[0], None),
        (ToldWindow(DAYS[3], last=DAYS[1]), ToldWindow(last=DAYS[2]), None, None),
        (ToldWindow(DAYS[0], last=DAYS[2]), ToldWindow(last=DAYS[1]), None, "those of this one only up to 2026-03-02"),
        # The model that a service began with is replaced whatever its data tell.
        (ToldWindow(is_first=True, last=DAYS[3]), ToldWindow(last=DAYS[0]), DAYS[0], None),
        (ToldWindow(is_first=True, last=DAYS[3]), None, DAYS[0], None),
    ],
)  # fmt: skip
def test_order(live: ToldWindow, told: ToldWindow | None, end: datetime | None, reason: str | None) -> None:
    """What is newer replaces, what is older is kept with a reason that tells both."""
    answer, lines = decided(live, told, end)
    assert (answer is None) == (reason is None), answer
    assert (reason or "") in (answer or "")
    assert answer is None or answer.startswith("Endpoint 'e' keeps its model: ")
    assert lines == []


@pytest.mark.parametrize("live", [ToldWindow(DAYS[1]), ToldWindow(last=DAYS[1]), ToldWindow(is_first=True), None])
def test_another_word(live: ToldWindow | None) -> None:
    """A word that means nothing is refused also where nothing is unknown: else it is found out by the first model."""
    with pytest.raises(ValueError, match=r"unknown_window is 'hope'; it must be 'replace', 'refuse' or None\."):
        decided(live, ToldWindow(last=DAYS[2]), DAYS[2], "hope")


def test_what_cannot_be_told() -> None:
    """Where neither ends nor last times of both are known, it is refused or said, as before."""
    with pytest.raises(ValueError, match="is unknown, so only_if_newer=True cannot tell"):
        decided(ToldWindow(), ToldWindow(last=DAYS[1]), DAYS[1])
    with pytest.raises(ValueError, match=r"The training window of models/one.ilearner is unknown"):
        decided(ToldWindow(DAYS[1]), ToldWindow(last=DAYS[1]), None)
    assert "replaced all the same" in decided(ToldWindow(last=DAYS[3]), None, DAYS[1], "replace")[1][0]


def test_a_service_that_tells_no_windows() -> None:
    """Its models are replaced, with a word on it, unless that is refused; the live one is named if it can be."""
    reason, lines = decided(None, None, DAYS[1])
    assert reason is None
    assert "of endpoint 'e', models/one.ilearner, is unknown" in lines[0]
    with pytest.raises(ValueError, match=r"of endpoint 'e', models/one\.ilearner, is unknown"):
        decided(None, None, DAYS[1], "refuse")
    nameless = Target(WebService("s", "s"), Endpoint("e"), Resource("m"))
    older_than_live(nameless, Candidate(PATH, Window(DAYS[1])), None, lines.append)
    assert "of endpoint 'e', which the service does not name, is unknown" in lines[1]


def test_overtaken_at_the_last_moment() -> None:
    """Before an update is said to have failed the endpoint is read once more: what it answered may have taken long."""
    lives = iter(["models/before.ilearner", "models/other.ilearner"])

    def answer(_: Request) -> Response:
        window = ToldWindow(DAYS[2])
        return Response.of_json(
            Endpoint("e", "s", "w", resources=(Resource("m", BlobReference(next(lives)), window=window),)).to_wire()
        )

    client, endpoint = Client("https://ml.example", "w", "t", transport=answer), Endpoint("e", "s", "w")
    patch = Patch("m", PATH, replaced=BlobReference("models/before.ilearner"), window_end=DAYS[1].isoformat())
    update = Update(Target(WebService("s", "S"), endpoint, Resource("m")), Candidate(PATH, None), patch)
    with pytest.raises(Overtaken, match="somebody else put models/other"):
        client.perform(Placing(client, lambda reference: reference, lambda _: None).wait(update, 0.0))


@pytest.mark.parametrize(
    ("live", "end", "words"),
    [
        ("models/other.ilearner", DAYS[2], "this one only up to 2026-03-02 00:00 UTC."),
        ("models/other.ilearner", DAYS[1], "up to 2026-03-02 00:00 UTC; so was this one."),
        ("models/other.ilearner", DAYS[0], None),
        ("models/before.ilearner", DAYS[2], None),
        ("models/one.ilearner", DAYS[2], None),
    ],
)
def test_overtaken(live: str, end: datetime, words: str | None) -> None:
    """While an update is proved, a model of the same window or a newer one that somebody else put live ends the wait;
    an older one does not, nor the one that was live before.
    """
    after = Endpoint("e", "s", "w", resources=(Resource("m", BlobReference(live), window=ToldWindow(end)),))
    client = Client("https://ml.example", "w", "t", transport=lambda _: Response.of_json(after.to_wire()))
    patch = Patch("m", PATH, replaced=BlobReference("models/before.ilearner"), window_end=DAYS[1].isoformat())
    wait = Placing(client, lambda reference: reference, lambda _: None).missing(after, None, patch)
    if words is None:
        client.perform(wait)
        return
    with pytest.raises(Overtaken, match=words):
        client.perform(wait)
