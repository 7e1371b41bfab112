"""Expressions of Data Factory as Jinja."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import jinja2
import pendulum
import pytest
from airflow.sdk.execution_time import macros

from airflow_provider_azureml_classic.importing.expressions import (
    MAX_TEXT,
    NotConverted,
    resolved,
    strftime,
    template,
)

START = pendulum.datetime(2026, 3, 1, 5)
CONTEXT: dict[str, Any] = {
    "data_interval_start": START,
    "data_interval_end": START.add(hours=1),
    "dag_run": SimpleNamespace(run_after=datetime(2026, 3, 9, tzinfo=UTC)),
    "params": {"folder": "in", "from": "2026-03-31T10:00:00Z", "days": "2"},
    "macros": macros,
    "run_id": "r1",
}


def rendered(value: str, **more: Any) -> str:
    """What a value becomes in a run."""
    return jinja2.Environment(autoescape=False).from_string(template(value)).render({**CONTEXT, **more})  # noqa: S701


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a/b.csv", "a/b.csv"),
        ("{{ 1 }} {% x %}", "{{ 1 }} {% x %}"),
        ("$$WindowStart", "2026-03-01T05:00:00"),
        (r"$$Text.Format('t >= \'{0:yyyy-MM-dd HH:mm:ss}\' /*{1:yyyy}*/', SliceStart, WindowEnd)",
         "t >= '2026-03-01 05:00:00' /*2026*/"),
        ("$$Text.Format('{0:yyyyMMdd}', Date.AddDays(WindowStart, -1))", "20260228"),
        ("$$Text.Format('{0:HH}', Time.AddHours(WindowEnd, 24))", "06"),
        ("@{formatDateTime(trigger().outputs.windowStartTime, 'yyyy/MM')}/@{pipeline().parameters.folder}/x.csv",
         "2026/03/in/x.csv"),
        ("@concat('it''s ', pipeline().RunId, utcNow('dd'))", "it's r101"),
        ("@addDays(pipeline().TriggerTime, -1, 'yyyy-MM-dd')", "2026-02-28"),
        ("@formatDateTime(pipeline().parameters.from, 'yyyy/MM')", "2026/03"),
        ("@addDays(pipeline().parameters.from, pipeline().parameters.days, 'MM-dd')", "04-02"),
        ("@formatDateTime(addMonths('2026-01-31', 1), 'MM-dd')", "02-28"),
        ("@formatDateTime(concat('2026-', '05-', '06'), 'dd')", "06"),
        ("@formatDateTime(addDays(utcNow(), 1), 'yyyy-MM-dd')", "2026-03-02"),
        ("@formatDateTime(utcNow())", "2026-03-01T06:00:00"),
        ("@subtractFromTime(pipeline().TriggerTime, 2, 'Day', 'dd')", "27"),
        ("@startOfDay(utcNow(), 'HH:mm')", "00:00"),
        ("@@x", "@x"),
    ],
)  # fmt: skip
def test_known_expressions(value: str, text: str) -> None:
    """What the known files use: formats and sums of moments, parameters, texts with Jinja's own signs."""
    assert rendered(value) == text


def test_a_run_without_an_interval_has_its_own_moment() -> None:
    """Version 2 had no intervals: the trigger's time is when the run was due."""
    assert rendered("@formatDateTime(pipeline().TriggerTime, 'dd')", data_interval_end=None) == "09"
    assert rendered("@addDays(pipeline().TriggerTime, -1, 'dd')", data_interval_end=None) == "08"


@pytest.mark.parametrize(
    "value",
    ["@activity('a').output.x", "$$Unknown.Function(1)", "@concat('a'", "$$", "$$Text.Format('{3}', WindowStart)",
     "@" + "concat(" * 99 + "'x'" + ")" * 99, "@concat('" + "x" * 200_000 + "')", "@utcNow('q')"],
)  # fmt: skip
def test_what_has_no_counterpart_is_told(value: str) -> None:
    """Nothing is guessed, and nothing is read without a bound."""
    with pytest.raises(NotConverted):
        template(value)


def test_formats() -> None:
    """A format of .NET is one of Python, or is refused."""
    moment = datetime(2026, 3, 1, 17, 4, 5, tzinfo=UTC) + timedelta(0)
    assert moment.strftime(strftime("yyyy-MM-ddTHH:mm:ss 'at' hh tt")) == "2026-03-01T17:04:05 at 05 PM"
    with pytest.raises(NotConverted, match="'d'"):
        strftime("d/M")


def test_resource_manager() -> None:
    """What a template says itself is filled in; the rest keeps a name to look for."""
    names = {
        "parameters.box": "data",
        "variables.all": {"sql": {"server": "[concat(parameters('box'), '01')]"}},
        "variables.loop": "[variables('loop')]",
    }
    assert resolved("[concat(variables('all')['sql'].server, '/', parameters('none'))]", names) == "data01/<none>"
    assert resolved("[[x]", names) == "[x]"
    assert resolved("[variables('loop')]", names).startswith("<variables")


def test_variables_that_double_each_other() -> None:
    """A template of some lines that would make texts of any length, or take for ever, is resolved as far as it goes."""
    for first in ("", "ten letter"):
        names = {f"variables.v{n + 1}": f"[concat(variables('v{n}'), variables('v{n}'))]" for n in range(60)}
        assert len(str(resolved("[variables('v30')]", {**names, "variables.v0": first}))) <= MAX_TEXT
    assert resolved("[variables('v3')]", {**names, "variables.v0": "a"}) == "a" * 8


def test_quotes_that_nobody_closes() -> None:
    """What could be read in very many ways is read in one."""
    assert template("a@{" + "'" * 60) == "a@{" + "'" * 60
    assert len(template("@{x" * 20_000)) >= 60_000
    assert rendered("a@{concat('}''{', 'b')}") == "a}'{b"
