"""DAG files of plans, and the report of an import."""

from __future__ import annotations

import pprint
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_azureml_classic.importing.factory import Finding
from airflow_provider_azureml_classic.importing.pipelines import Code, Plan, Task, identifier

#: Copies of a pipeline that are one fleet.
FLEET = 3
_OPERATORS = "airflow_provider_azureml_classic.operators"


def dag_name(plans: Sequence[Plan]) -> str:
    """Id of the DAG, which is the name of its file too.

    :param plans: copies of one pipeline.
    """
    return identifier(plans[0].name) + ("_fleet" if len(plans) > 1 else "")


def dag_source(plans: Sequence[Plan]) -> str:
    """The text of a DAG file.

    :param plans: copies of one pipeline; one plan is a DAG of its own.
    """
    plan = plans[0]
    rows = [_texts(one) for one in plans]
    varying = [key for key in rows[0] if len({row[key] for row in rows}) > 1] if len(plans) > 1 else []
    body = "\n".join(_body(plan, {rows[0][key]: key for key in varying} if varying else {}, bool(varying)))
    copies = [
        {"name": identifier(one.name), **{key: row[key] for key in varying}}
        for one, row in zip(plans, rows, strict=True)
    ]
    table = (
        f"\n#: What differs between the copies.\nCOPIES = {pprint.pformat(copies, width=110, sort_dicts=False)}\n"
        if varying
        else ""
    )
    names = ", ".join(repr(one.name) for one in plans)
    return f'''"""Made of the Data Factory pipeline {_plain(names)}: fill in what the import's report lists."""

from __future__ import annotations

{_imports(plan, bool(varying))}
{table}
with DAG(
    {dag_name(plans)!r},
    schedule={plan.schedule},
    start_date=datetime({", ".join(str(int(part)) for part in (plan.start or "2026-01-01").split("-"))}, tzinfo=UTC),
    catchup=False,
    max_active_runs={plan.active_runs},
    is_paused_upon_creation={plan.paused},
    params={plan.parameters!r},
    tags=["azureml-classic", "data-factory"],
):
{body}
'''


def _plain(text: str) -> str:
    return text.replace("\\", "/").replace('"""', "'''")[:500]


def _imports(plan: Plan, fleet: bool) -> str:
    operators = sorted({task.operator for task in plan.tasks})
    ours = [name for name in operators if name != "EmptyOperator"]
    sdk = [
        "DAG",
        *(["TaskGroup"] if fleet else []),
        *(n for n in ("CronDataIntervalTimetable", "DeltaDataIntervalTimetable") if n in plan.schedule),
    ]
    lines = [
        "from datetime import UTC, datetime" + (", timedelta" if "timedelta(" in plan.schedule else ""),
        "",
        *(
            ["from airflow.providers.standard.operators.empty import EmptyOperator"]
            if "EmptyOperator" in operators
            else []
        ),
        f"from airflow.sdk import {', '.join(sorted(sdk))}",
    ]
    if ours:
        lines += ["", f"from {_OPERATORS} import (", *(f"    {name}," for name in ours), ")"]
    return "\n".join(lines)


def _texts(plan: Plan) -> dict[str, str]:
    """All texts of the tasks' arguments, by a name for each."""
    found: dict[str, str] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{path}_{identifier(str(key))}", inner)
        elif isinstance(value, str):
            found[path] = value

    for task in plan.tasks:
        walk(task.id, task.arguments)
    return found


def _body(plan: Plan, varying: Mapping[str, str], fleet: bool) -> Iterable[str]:
    indent = "    "
    if fleet:
        yield f"{indent}for copy in COPIES:"
        yield f"{indent}    with TaskGroup(copy['name']):"
        indent += "        "
    if not plan.tasks:
        yield f"{indent}pass"
        return
    tasks = "tasks"
    yield f"{indent}{tasks} = {{}}"
    for task in plan.tasks:
        yield from (indent + line if line else line for line in _task(task, varying, tasks))
    for task in plan.tasks:
        for before in task.after:
            yield f"{indent}{tasks}[{before!r}] >> {tasks}[{task.id!r}]"


def _task(task: Task, varying: Mapping[str, str], tasks: str) -> Iterable[str]:
    yield f"{tasks}[{task.id!r}] = {task.operator}("
    yield f"    task_id={task.id!r},"
    for name, value in task.arguments.items():
        yield f"    {name}={_value(value, varying, tasks)},"
    if task.note:
        yield f"    doc_md={task.note!r},"
    yield ")"


def _value(value: Any, varying: Mapping[str, str], tasks: str) -> str:
    if isinstance(value, Code):
        return value.text.format(tasks)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_value(inner, varying, tasks)}" for key, inner in value.items()) + "}"
    if isinstance(value, str) and value in varying:
        return f"copy[{varying[value]!r}]"
    return repr(value)


def report(groups: Sequence[Sequence[Plan]]) -> str:
    """What was made, what is to be filled in, and what to do by hand.

    :param groups: copies of one pipeline, a DAG each.
    """
    lines = ["# Import of Data Factory files", "", "| DAG | pipelines | tasks | empty tasks |", "|---|---|---|---|"]
    for plans in groups:
        empty = sum(task.operator == "EmptyOperator" for task in plans[0].tasks)
        lines.append(f"| {dag_name(plans)} | {len(plans)} | {len(plans[0].tasks)} | {empty} |")
    connections = {name: kind for plans in groups for plan in plans for name, kind in plan.connections.items()}
    lines += ["", "## Connections to make", "", "No key, password or address was taken along.", ""]
    lines += [f"- `{name}`: {kind}{_FILL.get(kind, '')}" for name, kind in sorted(connections.items())]
    every = [finding for plans in groups for plan in plans for finding in plan.findings]
    return "\n".join([*lines, "", *to_do(every, "activity")]) + "\n"


def to_do(findings: Sequence[Finding], what: str) -> list[str]:
    """The part of a report that lists what to do by hand, in lines.

    :param findings: a line of its table each.
    :param what: they are about.
    """
    lines = ["## To do by hand", "", f"| file | {what} | property | do |", "|---|---|---|---|"]
    rows = ((f.file, f.activity, f.property, f.todo) for f in findings)
    return lines + ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]


_FILL: Mapping[str, str] = {
    "azureml_classic": ": management URL, workspace id, workspace token, and the storage account of the data",
    "the database": ": host, database, user and password, of the type of the database",
}


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
