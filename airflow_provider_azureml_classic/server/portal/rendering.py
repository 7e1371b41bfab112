"""Templates to HTML: the filters that pages use, and the addresses of the static files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.moments import age_text
from airflow_provider_azureml_classic.protocol.operations import PORTAL
from airflow_provider_azureml_classic.server.help.description import Facts
from airflow_provider_azureml_classic.server.portal.chart import ordered

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent
#: Stands for what is not known.
NONE = "-"
#: Static files and their types.
STATIC = {"portal.css": "text/css", "portal.js": "text/javascript", "icon.svg": "image/svg+xml"}


def render(template: str, values: Mapping[str, Any]) -> str:
    """The HTML of a page.

    :param template: its name.
    :param values: what it shows.
    """
    return _environment().get_template(f"{template}.html").render(values)


@cache
def static(name: str) -> bytes:
    """Content of a static file.

    :param name: one of :data:`STATIC`.
    """
    return (HERE / "static" / name).read_bytes()


def static_url(prefix: str, name: str) -> str:
    """Address of a static file; it changes with the content, so that browsers may keep it.

    :param prefix: path of the public address.
    :param name: one of :data:`STATIC`.
    """
    return f"{prefix}{PORTAL}/static/{name}?v={hashlib.sha256(static(name)).hexdigest()[:12]}"


@cache
def _environment() -> Environment:
    # Imported here, as the server must start in under a second.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "age": age_text,
        "when": when,
        "day": day,
        "iso": iso,
        "span": span,
        "size": size,
        "figure": figure,
    }
    made.filters |= {"latency": latency, "ordered": ordered, "help_path": help_path}
    return made


def when(moment: datetime | None) -> str:
    """A time as people read it, in UTC.

    :param moment: ``None`` gives a dash.
    """
    return f"{moment:%Y-%m-%d %H:%M}" if moment else NONE


def day(moment: datetime) -> str:
    """A time, without its hour where that is midnight: windows of training data mostly end there.

    :param moment: in UTC.
    """
    return f"{moment:%Y-%m-%d}" if moment.hour == moment.minute == 0 else when(moment)


def iso(moment: datetime) -> str:
    """A time for the ``datetime`` attribute.

    :param moment: in UTC.
    """
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def span(duration: timedelta | float | None) -> str:
    """A duration in its largest unit that gives at least two, or one of the smallest.

    :param duration: or seconds; ``None`` gives a dash, a negative one counts as zero.
    """
    if duration is None:
        return NONE
    seconds = max(0.0, duration.total_seconds() if isinstance(duration, timedelta) else duration)
    for unit, length in (("years", 31_557_600), ("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{seconds:.1f} s" if 0 < seconds < 10 else f"{seconds:.0f} s"


def size(length: int | None) -> str:
    """A file's length.

    :param length: in bytes; ``None`` gives a dash.
    """
    if length is None:
        return NONE
    amount = float(length)
    for unit in ("bytes", "KB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def figure(value: float | None) -> str:
    """A number with four significant digits.

    :param value: ``None`` gives a dash.
    """
    return NONE if value is None else f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def latency(seconds: float | None) -> str:
    """A class of latency.

    :param seconds: its upper bound; ``None`` without calls, infinite above the last one.
    """
    if seconds is None:
        return NONE
    if seconds == float("inf"):
        return "over 10 s"
    return f"≤ {seconds * 1000:g} ms" if seconds < 1 else f"≤ {seconds:g} s"


def help_path(facts: Facts) -> str:
    """Path of an endpoint's help pages below the path of the public address.

    :param facts: about the endpoint.
    """
    return ops.HELP_INDEX.url("", {"workspace": facts.workspace, "service": facts.service, "endpoint_id": facts.guid})
