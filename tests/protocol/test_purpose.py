"""What a submission knows of its job, in a header."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.purpose import HEADER, Purpose

WHOLE = Purpose("Zürich", "0" * 32, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
CHECKED = Purpose("mine", data_check="fail", limits={"outside": 0.5, "age.missing": 1.0})


@pytest.mark.parametrize("purpose", [WHOLE, Purpose("mine"), Purpose(end=WHOLE.end), CHECKED])
def test_what_is_sent_is_read(purpose: Purpose) -> None:
    """Whatever is known of it; in the letters of a header."""
    headers = purpose.to_header()
    assert headers[HEADER].isascii()
    assert Purpose.from_headers(headers) == purpose


@pytest.mark.parametrize(("check", "endpoint"), [("warn", "mine"), ("fail", "mine"), ("only", "mine"), ("off", None)])
def test_what_data_are_compared_with(check: str, endpoint: str | None) -> None:
    """The live model's of the endpoint that the model is for, unless nothing is to be compared."""
    assert Purpose("mine", data_check=check).compared_with == endpoint


def test_nothing_known_is_not_sent() -> None:
    """And a request without the header has no purpose."""
    assert Purpose().to_header() == {}
    assert Purpose.from_headers({}) is None


def test_members_of_later_versions_are_passed_over() -> None:
    """As services pass over the header that do not know it."""
    assert Purpose.from_headers({HEADER: '{"Endpoint": "mine", "Colour": [1]}'}) == Purpose("mine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("soon", "it is not JSON"),
        ("[" * 4000, "it is not JSON"),
        ("[]", "it is not a JSON object"),
        ('{"Endpoint": 3}', "its member Endpoint cannot be int"),
        ('{"End": "soon"}', "'soon' is not a time"),
        ('{"End": "0001-01-01T00:00:00+01:00"}', "is not a time"),
        ('{"DataCheck": "perhaps"}', "none of warn, fail, off, only"),
        ('{"Limits": {"ouside": 0.5}}', "'ouside' of the data check"),
        ('{"Limits": {"outside": 5}}', "a share from 0 to 1"),
        ('{"Endpoint": "%s"}' % ("x" * 5000), "over 4096 letters"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, message: str) -> None:
    """The message names the header, and says that it may be left out."""
    with pytest.raises(RequestRejected, match=message) as caught:
        Purpose.from_headers({HEADER: text})
    assert HEADER in caught.value.message
