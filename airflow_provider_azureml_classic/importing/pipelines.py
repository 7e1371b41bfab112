"""A pipeline of Data Factory as tasks: what each activity becomes, and what has to be done by hand.

Rule 1: every activity becomes a task; what cannot be converted is a finding that names file, activity and property.
Rule 2: no secret is copied: of a linked service only its name and kind are used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_azureml_classic.importing.expressions import NotConverted, template
from airflow_provider_azureml_classic.importing.factory import Factory, Finding, Resource, reference
from airflow_provider_azureml_classic.protocol.jobs import INPUT, MODEL_OUTPUT, SCORED_OUTPUT
from airflow_provider_azureml_classic.protocol.references import MODEL_EXTENSION
from airflow_provider_azureml_classic.protocol.values import DEFAULT_ENDPOINT

_SCORING = "azuremlbatchscoring"
_BATCH = ("azuremlbatchexecution", _SCORING)
_SIDES = ("Input", "Output")
_UPDATE = "azuremlupdateresource"
_QUERY = re.compile(r"database query\s*(\d*)", re.IGNORECASE)
#: A parameter of any name that holds a query.
_SELECT = re.compile(r"\s*(\$\$Text\.Format\(\s*')?\s*(select|with|exec|execute)\s", re.IGNORECASE)
_SECRET = re.compile(r"password|secret|token|(account|api|access)\s*key|connection\s*string", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"[?&]sig=|AccountKey=|Password=", re.IGNORECASE)
#: What a Resource Manager template left open.
_OPEN = re.compile(r"<\w+>")
_TABLE = re.compile(r"data table name\s*\d*", re.IGNORECASE)
#: What Studio's *Import Data* and *Export Data* ask besides: all of it is the database's connection now.
_OF_DATABASE = re.compile(
    r"(database server name|database name|user name|password|server user account (name|password)|data source|"
    r"trusted connection|comma separated list of columns.*|accept any server certificate.*)\s*\d*",
    re.IGNORECASE,
)
#: Name of a file of which only the folder is known.
_UNNAMED = "/data.csv"
#: Tells the files of two runs apart.
_RUN = "{{ dag_run.run_after.strftime('%Y%m%dT%H%M%S') }}"
_TIME = re.compile(r"(?:(\d+)\.)?(\d+):(\d+):(\d+)")


@dataclass(frozen=True)
class Code:
    """A value that is written as code, not as a text.

    :param text: Python.
    """

    text: str


@dataclass
class Task:
    """One task of a DAG.

    :param operator: class of the operator.
    :param id: of the task.
    :param arguments: keyword arguments.
    :param after: ids of the tasks that it follows.
    :param note: shown with the task.
    """

    operator: str
    id: str
    arguments: dict[str, Any] = field(default_factory=dict)
    after: list[str] = field(default_factory=list)
    note: str = ""


@dataclass
class Plan:
    """A DAG, before it is written.

    :param name: of the pipeline.
    :param file: it stands in.
    :param schedule: code of the schedule.
    :param start: ISO date, or empty.
    :param active_runs: at once.
    :param parameters: of version 2, with their defaults.
    :param paused: it was paused.
    :param tasks: in order.
    :param connections: kind of each connection needed, by id.
    :param services: linked services that its Azure ML activities name.
    :param findings: what is to be done by hand.
    """

    name: str
    file: str
    schedule: str = "None"
    start: str = ""
    active_runs: int = 1
    parameters: dict[str, Any] = field(default_factory=dict)
    paused: bool = True
    tasks: list[Task] = field(default_factory=list)
    connections: dict[str, str] = field(default_factory=dict)
    services: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)


def identifier(name: str) -> str:
    """A name that an Airflow id may have.

    :param name: of an activity, pipeline or linked service.
    """
    return re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()[:200] or "unnamed"


class Converter:
    """Converts the pipelines of a factory.

    :param factory: all its files.
    :param services: web service and endpoint by linked service (name in lower case), as the user gave them.
    """

    def __init__(self, factory: Factory, services: Mapping[str, tuple[str, str]]) -> None:
        self._factory = factory
        self._services = services

    def plans(self) -> list[Plan]:
        """One plan a pipeline.

        :raises ValueError: a linked service was given that no Azure ML activity names.
        """
        plans = [_Pipeline(self._factory, self._services, pipeline).plan() for pipeline in self._factory.pipelines]
        used = {name for plan in plans for name in plan.services}
        unknown = next((name for name in self._services if name not in {one.lower() for one in used}), None)
        if unknown is not None:
            names = ", ".join(sorted(map(repr, used))) or "none"
            raise ValueError(
                f"--service {unknown!r}: no Azure ML activity names this linked service; they name: {names}."
            )
        return plans


class _Pipeline:
    def __init__(self, factory: Factory, services: Mapping[str, tuple[str, str]], pipeline: Resource) -> None:
        self._factory = factory
        self._services = services
        self._source = pipeline
        self._plan = Plan(pipeline.name, pipeline.file)
        self._activity = ""
        #: Task that writes a dataset or path, by its name in lower case; task of an activity, by its name.
        self._writers: dict[str, str] = {}
        self._ids: dict[str, str] = {}

    def plan(self) -> Plan:
        properties = self._source.properties
        self._plan.paused = bool(properties.get("isPaused", True))
        self._parameters(properties.get("parameters"))
        self._start(properties)
        activities = [one for one in _flat(properties["activities"]) if isinstance(one, Mapping)]
        for activity in activities:
            self._convert(activity)
        for activity in activities:
            self._order(activity)
        return self._plan

    # -- when ----------------------------------------------------------------------------------------------------------

    def _parameters(self, declared: Any) -> None:
        for name, entry in (declared or {}).items() if isinstance(declared, Mapping) else ():
            default = entry.get("defaultValue") if isinstance(entry, Mapping) else None
            kind = str(_mapping(entry).get("type", "")).lower()
            secret = kind.startswith("secure") or _SECRET.search(name) or _SECRET_VALUE.search(str(default))
            if secret:
                self._todo(f"parameters.{name}", "it is a secret: keep it in a connection, and use that")
            self._plan.parameters[str(name)] = "" if default is None or secret else default

    def _start(self, properties: Mapping[str, Any]) -> None:
        start = str(properties.get("start") or "")
        if re.match(r"\d{4}-\d\d-\d\d", start):
            self._plan.start = start[:10]
        elif start:
            self._todo("start", "it holds no date; set start_date of the DAG")
        if properties.get("end"):
            self._todo("end", "slices after it were not run; set end_date of the DAG if that is still meant")
        if "start" in properties:
            self._todo("start", "earlier intervals are not run by themselves: run a backfill for those that you want")

    def _schedule(self, activity: Mapping[str, Any]) -> None:
        scheduler = activity.get("scheduler")
        if not isinstance(scheduler, Mapping) or self._plan.schedule != "None":
            return
        unit = str(scheduler.get("frequency", "")).lower()
        every = scheduler.get("interval", 1)
        if unit == "month":
            self._plan.schedule = "CronDataIntervalTimetable('0 0 1 * *', timezone='UTC')"
        elif unit in ("minute", "hour", "day", "week") and isinstance(every, int) and every > 0:
            self._plan.schedule = f"DeltaDataIntervalTimetable(timedelta({unit}s={every}))"
        if unit not in ("minute", "hour", "day", "week", "month") or (unit == "month" and every != 1):
            self._todo("scheduler", f"every {every} {unit}: set the DAG's schedule")
        if scheduler.get("offset"):
            self._todo("scheduler.offset", f"intervals began {scheduler['offset']} later: set it in start_date")

    # -- what ----------------------------------------------------------------------------------------------------------

    def _todo(self, name: str, text: str, activity: str = "") -> None:
        where = activity or self._activity or self._plan.name
        self._plan.findings.append(Finding(self._plan.file, where, name, text))

    def _text(self, name: str, value: Any) -> str:
        """A value as a template; where it cannot be converted it stays as it is, which is told."""
        if isinstance(value, Mapping) and "value" in value:
            value = value["value"]
        if _SECRET.search(name) or _SECRET_VALUE.search(str(value)):
            self._todo(name, "it is or holds a secret, which is not copied: keep it in a connection, and use that")
            return ""
        for found in _OPEN.findall(str(value)):
            self._todo(name, f"fill in {found}")
        try:
            return template(str(value))
        except NotConverted as error:
            self._todo(name, f"write {str(value)[:200]!r} anew: {error}")
            return ""

    def _convert(self, activity: Mapping[str, Any]) -> None:
        self._activity = str(activity.get("name") or activity.get("type") or "activity")
        kind = str(activity.get("type") or "").lower()
        self._schedule(activity)
        settings = activity.get("typeProperties")
        settings = settings if isinstance(settings, Mapping) else {}
        if kind in _BATCH:
            self._batch(activity, settings)
        elif kind == _UPDATE:
            self._update(activity, settings)
        else:
            self._other(activity)
        self._activity = ""

    def _task(
        self, operator: str, suffix: str, arguments: dict[str, Any], after: Sequence[str] = (), note: str = ""
    ) -> str:
        base = made = identifier(self._activity + suffix)
        taken = {task.id for task in self._plan.tasks}
        number = 2
        while made in taken:
            made, number = f"{base}_{number}", number + 1
        self._plan.tasks.append(Task(operator, made, arguments, list(after), note))
        return made

    def _service(self, activity: Mapping[str, Any]) -> dict[str, Any]:
        """Which web service and endpoint a linked service stands for."""
        name = reference(activity.get("linkedServiceName")) or "AzureML"
        self._plan.connections["azureml_classic_default"] = "azureml_classic"
        self._plan.services.add(name)
        given = self._services.get(name.lower())
        if given:
            return {"web_service": given[0], "endpoint": given[1]}
        self._todo(
            "linkedServiceName",
            f"{name!r} has ids of the cloud only: say --service '{name}=NAME OF THE WEB SERVICE/ENDPOINT', or fill in "
            "web_service and endpoint",
        )
        return {"web_service": name, "endpoint": DEFAULT_ENDPOINT}

    def _policy(self, activity: Mapping[str, Any]) -> dict[str, Any]:
        policy = activity.get("policy")
        policy = policy if isinstance(policy, Mapping) else {}
        arguments: dict[str, Any] = {}
        if isinstance(policy.get("retry"), int):
            arguments["retries"] = policy["retry"]
        taken = _TIME.fullmatch(str(policy.get("timeout") or ""))
        if taken:
            days, hours, minutes, seconds = (int(part or 0) for part in taken.groups())
            arguments["job_timeout"] = float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
        if isinstance(policy.get("concurrency"), int):
            self._plan.active_runs = max(self._plan.active_runs, policy["concurrency"])
        if policy.get("executionPriorityOrder"):
            self._todo("policy.executionPriorityOrder", "newest first: start backfills with --run-backwards")
        return arguments

    def _batch(self, activity: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        before: list[str] = []
        ports = (self._ports(settings, f"webService{side}") or self._implied(activity, side) for side in _SIDES)
        web_inputs, web_outputs = ports
        inputs = {name: self._input(name, value, before) for name, value in web_inputs}
        outputs, tables = {}, []
        for name, value in web_outputs:
            dataset = self._factory.dataset(reference(value))
            if dataset is not None and "table" in dataset.type:
                tables.append((name, self._table_of(dataset), self._database(dataset)))
            else:
                outputs[name] = self._path(f"webServiceOutputs.{name}", value)
        parameters = {**_mapping(settings.get("globalParameters")), **_mapping(settings.get("webServiceParameters"))}
        self._queries(activity, parameters, inputs, before)
        kept = {
            name: self._text(f"globalParameters.{name}", value)
            for name, value in parameters.items()
            if not (_is_query(name, value) or _TABLE.fullmatch(name) or _OF_DATABASE.fullmatch(name))
        }
        arguments = self._service(activity) | {"inputs": inputs}
        arguments |= {name: value for name, value in (("outputs", outputs), ("global_parameters", kept)) if value}
        job = self._task("BatchExecutionOperator", "", arguments | self._policy(activity), before)
        self._remember(activity, job, outputs)
        self._tables(activity, parameters, tables, job)

    def _queries(
        self, activity: Mapping[str, Any], parameters: Mapping[str, Any], inputs: dict[str, Any], before: list[str]
    ) -> None:
        """The queries of *Import Data*: each is run before the job, and its rows are an input."""
        for number, (name, value) in enumerate(((n, v) for n, v in parameters.items() if _is_query(n, v)), 1):
            port = INPUT if number == 1 else f"input{number}"
            while port in inputs:
                number += 1
                port = f"input{number}"
            inputs[port] = self._upload(
                f"_{identifier(name)}", self._text(f"globalParameters.{name}", value), self._source_database(activity)
            )
            before.append(self._plan.tasks[-1].id)
            self._todo(f"globalParameters.{name}", f"its rows are sent as {port}: the experiment must have this input")

    def _upload(self, suffix: str, sql: str, connection: str) -> str:
        path = f"datafactory/{identifier(self._plan.name)}/{identifier(self._activity + suffix)}-{_RUN}.csv"
        self._task("UploadDataOperator", suffix, {"sql": sql, "sql_conn_id": connection, "destination": path})
        return path

    def _tables(
        self, activity: Mapping[str, Any], parameters: Mapping[str, Any], tables: list[tuple[str, str, str]], job: str
    ) -> None:
        """Tables that the scored rows go to: outputs, and what *Export Data* was told."""
        found: list[tuple[str | None, str, str]] = [*tables]
        for name, value in parameters.items():
            if _TABLE.fullmatch(name):
                found.append((None, self._text(f"globalParameters.{name}", value), self._target_database(activity)))
        if not found and not self._ports(_mapping(activity.get("typeProperties")), "webServiceOutput"):
            for dataset in map(self._factory.dataset, map(reference, activity.get("outputs") or ())):
                if dataset is not None and "table" in dataset.type:
                    found.append((None, self._table_of(dataset), self._database(dataset)))
        for output, table, connection in found:
            arguments = {"job": Code(f"{{}}[{job!r}].output"), "table": table, "sql_conn_id": connection}
            self._task(
                "WriteTableOperator", "_to_table", arguments | ({"output_name": output} if output else {}), [job]
            )

    def _update(self, activity: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        value = settings.get("trainedModelFilePath") or settings.get("trainedModelDatasetName")
        path = self._path("trainedModel", value)
        writer = self._writers.get(path.lower()) or self._in_folder(path)
        model = {"job": Code(f"{{}}[{writer!r}].output")} if writer else {"location": path}
        arguments = self._service(activity) | model
        if arguments["endpoint"] == DEFAULT_ENDPOINT:
            self._todo("linkedServiceName", "the model of the endpoint 'default' cannot be replaced: name another one")
        resource = settings.get("trainedModelName")
        if resource:
            self._todo("trainedModelName", f"it was {resource!r}: set resource if the endpoint has several models")
        policy = self._policy(activity)
        policy.pop("job_timeout", None)
        task = self._task("UpdateTrainedModelOperator", "", arguments | policy, [writer] if writer else [])
        self._remember(activity, task, {})

    def _in_folder(self, path: str) -> str | None:
        """The task whose output was told by its folder only: it writes this model there."""
        for task in self._plan.tasks:
            for name, place in task.arguments.get("outputs", {}).items():
                if path.lower().startswith(place.removesuffix(_UNNAMED).lower() + "/") and place.endswith(_UNNAMED):
                    task.arguments["outputs"][name] = path
                    return task.id
        return None

    def _other(self, activity: Mapping[str, Any]) -> None:
        kind = str(activity.get("type") or "activity")
        sides = [
            ", ".join(filter(None, map(reference, activity.get(side) or ()))) or "nothing named"
            for side in ("inputs", "outputs")
        ]
        note = f"{kind} of Data Factory, from {sides[0]} to {sides[1]}: put a task here that does it."
        self._todo("type", f"{kind} is an empty task: replace it, or remove it if nothing needs it")
        self._remember(activity, self._task("EmptyOperator", "", {}, note=note), {})

    # -- places --------------------------------------------------------------------------------------------------------

    def _ports(self, settings: Mapping[str, Any], name: str) -> list[tuple[str, Any]]:
        if settings.get(name):
            return [(INPUT if name.endswith("Input") else MODEL_OUTPUT, settings[name])]
        return list(_mapping(settings.get(f"{name}s")).items())

    def _implied(self, activity: Mapping[str, Any], side: str) -> list[tuple[str, Any]]:
        """The first form of *AzureMLBatchScoring* names no input of the web service: the activity's file is sent."""
        settings = _mapping(activity.get("typeProperties"))
        parameters = {**_mapping(settings.get("globalParameters")), **_mapping(settings.get("webServiceParameters"))}
        if str(activity.get("type")).lower() != _SCORING or parameters:
            return []
        files = [one for one in activity.get(f"{side.lower()}s") or () if self._is_blob(one)]
        return [(INPUT if side == "Input" else SCORED_OUTPUT, one) for one in files[:1]]

    def _is_blob(self, value: Any) -> bool:
        dataset = self._factory.dataset(reference(value))
        return dataset is not None and "blob" in dataset.type

    def _input(self, name: str, value: Any, before: list[str]) -> str:
        dataset = self._factory.dataset(reference(value)) if not _is_file(value) else None
        if dataset is None or "table" not in dataset.type:
            return self._path(f"webServiceInputs.{name}", value)
        query = f"SELECT * FROM {self._table_of(dataset)}"  # noqa: S608 - as the file says it; a person reads the DAG
        path = self._upload(f"_{name}", query, self._database(dataset))
        before.append(self._plan.tasks[-1].id)
        return path

    def _path(self, name: str, value: Any) -> str:
        """Container and path of a file: of version 2 as written, of version 1 as its dataset says."""
        if isinstance(value, str) and ("/" in value or "@" in value):
            return self._text(name, value)
        if _is_file(value):
            return self._named(name, self._text(name, value.get("FilePath") or value.get("filePath")))
        dataset = self._factory.dataset(reference(value))
        if dataset is None:
            self._todo(name, f"the dataset {reference(value)!r} is in none of the files: name its file too")
            return f"datafactory/{identifier(reference(value))}.csv"
        return self._dataset_path(dataset)

    def _dataset_path(self, dataset: Resource) -> str:
        folder, name = (self._setting(dataset, key).strip("/") for key in ("folderPath", "fileName"))
        path = "/".join(filter(None, (folder, name)))
        for part in dataset.settings.get("partitionedBy") or ():
            said = _mapping(part.get("value"))
            moment = f"$$Text.Format('{{0:{said.get('format')}}}', {said.get('date')})"
            path = path.replace(f"{{{part.get('name')}}}", self._text(f"{dataset.name}.partitionedBy", moment))
        where = f"{dataset.name}.fileName"
        if name or "." in path.rpartition("/")[2].rpartition("}}")[2]:
            return _in_container(path)
        return self._folder(where, path or f"datafactory/{identifier(dataset.name)}")

    def _setting(self, dataset: Resource, key: str) -> str:
        """A text of a dataset; in version 2 it may be an expression."""
        value = dataset.settings.get(key) or ""
        return self._text(f"{dataset.name}.{key}", value) if isinstance(value, Mapping) else str(value)

    def _named(self, name: str, path: str) -> str:
        """A path of version 2, which names a file; one without the look of a file has a name that a person checks."""
        path = path.strip("/")
        if path.endswith("}}"):
            # What an expression gives is known in a run only.
            self._todo(name, f"{path!r} must be container and path of a file: check it")
            return path
        return _in_container(path) if "." in path.rpartition("/")[2] else self._folder(name, path)

    def _folder(self, name: str, path: str) -> str:
        """The path of a file in a folder."""
        path += _UNNAMED
        self._todo(name, f"a folder is named, not a file: check the path {path!r}")
        return path

    def _table_of(self, dataset: Resource) -> str:
        table = dataset.settings.get("tableName") or dataset.settings.get("table")
        if not table:
            self._todo(f"{dataset.name}.tableName", "it names no table: fill it in")
        return str(table or identifier(dataset.name))

    def _database(self, dataset: Resource | None) -> str:
        name = reference(dataset.properties.get("linkedServiceName")) if dataset is not None else "database"
        self._plan.connections[identifier(name)] = "the database"
        return identifier(name)

    def _source_database(self, activity: Mapping[str, Any]) -> str:
        return self._database(self._first_table(activity, "inputs"))

    def _target_database(self, activity: Mapping[str, Any]) -> str:
        return self._database(self._first_table(activity, "outputs") or self._first_table(activity, "inputs"))

    def _first_table(self, activity: Mapping[str, Any], side: str) -> Resource | None:
        datasets = map(self._factory.dataset, map(reference, activity.get(side) or ()))
        return next((one for one in datasets if one is not None and "table" in one.type), None)

    # -- in which order ------------------------------------------------------------------------------------------------

    def _remember(self, activity: Mapping[str, Any], task: str, outputs: Mapping[str, str]) -> None:
        self._ids[str(activity.get("name") or "").lower()] = task
        for side in activity.get("outputs") or ():
            self._writers[f"dataset {reference(side).lower()}"] = task
        for path in outputs.values():
            if path.lower().endswith(MODEL_EXTENSION):
                self._writers[path.lower()] = task

    def _order(self, activity: Mapping[str, Any]) -> None:
        task = next(
            (one for one in self._plan.tasks if one.id == self._ids.get(str(activity.get("name") or "").lower())), None
        )
        if task is None:
            return
        self._activity = str(activity.get("name") or "")
        for dependency in _list(activity.get("dependsOn")):
            before = self._ids.get(str(_mapping(dependency).get("activity") or "").lower())
            if before:
                task.after.append(before)
            if any(one != "Succeeded" for one in _list(_mapping(dependency).get("dependencyConditions"))):
                self._todo("dependsOn.dependencyConditions", "not only after success: set trigger_rule of the task")
        for side in _list(activity.get("inputs")):
            before = self._writers.get(f"dataset {reference(side).lower()}")
            if before and before != task.id:
                task.after.append(before)
        task.after = list(dict.fromkeys(task.after))
        self._activity = ""


def _in_container(path: str) -> str:
    return path if "/" in path else f"datafactory/{path}"


def _is_query(name: str, value: Any) -> bool:
    return bool(_QUERY.fullmatch(name) or (isinstance(value, str) and _SELECT.match(value)))


def _is_file(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value.get("FilePath") or value.get("filePath"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _flat(activities: Any) -> Iterator[Any]:
    """Activities, and those within loops and branches."""
    for activity in activities if isinstance(activities, list) else ():
        yield activity
        settings = _mapping(_mapping(activity).get("typeProperties"))
        for inner in ("activities", "ifTrueActivities", "ifFalseActivities", "defaultActivities"):
            yield from _flat(settings.get(inner))


def copies(plans: Sequence[Plan]) -> list[list[Plan]]:
    """Plans in groups of the same shape: those of a group differ in texts only.

    :param plans: as converted.
    """
    groups: dict[str, list[Plan]] = {}
    for plan in plans:
        shape = replace(
            plan, name="", file="", services=set(), findings=[], tasks=[_shape(task) for task in plan.tasks]
        )
        groups.setdefault(repr(shape), []).append(plan)
    return list(groups.values())


def _shape(task: Task) -> Task:
    return replace(task, arguments=_without_texts(task.arguments), note="")


def _without_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_texts(inner) for key, inner in value.items()}
    return "" if isinstance(value, str) else value
