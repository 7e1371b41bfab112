"""``azureml-classic export``: the way out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from airflow_provider_azureml_classic.cli.jobs import readable
from airflow_provider_azureml_classic.cli.session import DONE, KEPT, Session
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, RequestRejected, rejection
from airflow_provider_azureml_classic.exporting import azureml, comparing, mlflow, onnx, report
from airflow_provider_azureml_classic.exporting.comparing import Exported
from airflow_provider_azureml_classic.exporting.graph import self_contained
from airflow_provider_azureml_classic.exporting.libraries import check_libraries
from airflow_provider_azureml_classic.exporting.model import Model
from airflow_provider_azureml_classic.exporting.package import Files, Package, Target
from airflow_provider_azureml_classic.exporting.runtime import ExportedModel
from airflow_provider_azureml_classic.protocol.jobs import SCORED_OUTPUT
from airflow_provider_azureml_classic.protocol.model_history import PastModel
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource, WebService, is_check_endpoint
from airflow_provider_azureml_classic.retraining.past_models import past_models
from airflow_provider_azureml_classic.tables.rows import parse_rows

#: What an export is made for.
TARGETS: Mapping[str, Target] = MappingProxyType(
    {"onnx": onnx.TARGET, "mlflow": mlflow.TARGET, "azureml-v2": azureml.TARGET}
)
#: Models of an endpoint that are exported, the live one among them.
VERSIONS = 10
#: Rows in a call.
_BATCH = 500
_COLUMNS = ("endpoint", "outcome", "rows", "other_labels", "difference", "versions", "reason")


def export(session: Session) -> int:
    """Write the models of endpoints as another tool loads them, ask both, and report how far their answers differ."""
    check_libraries()
    arguments, into = session.arguments, session.arguments.into
    if into.exists() and any(into.iterdir()) and not arguments.overwrite:
        raise ValueError(f"{into} is not empty: name another folder, or say --overwrite.")
    service = session.client.find_web_service(arguments.service)
    rows = _rows(arguments.rows) if arguments.rows else None
    exports = [_exported(session, service, endpoint, rows) for endpoint in _endpoints(session, service)]
    into.mkdir(parents=True, exist_ok=True)
    (into / report.MARKDOWN).write_text(report.as_markdown(service.name, arguments.to, exports), encoding="utf-8")
    (into / report.JSON).write_text(report.as_json(service.name, arguments.to, exports), encoding="utf-8")
    session.out.rows([_row(one) for one in exports], _COLUMNS)
    session.out.say(f"What was compared, and what stays behind: {into / report.MARKDOWN}")
    return DONE if all(one.agreement and one.agreement.good for one in exports) else KEPT


def _endpoints(session: Session, service: WebService) -> list[Endpoint]:
    names = session.arguments.endpoints
    if not names:
        return [row for row in session.client.list_endpoints(service.id) if not is_check_endpoint(row.name)]
    return [session.client.get_endpoint(service.id, name) for name in names]


def _rows(path: Path) -> Table:
    try:
        return parse_rows(path.read_bytes(), str(path))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except RequestRejected as error:
        raise ValueError(error.message) from None


def _exported(session: Session, service: WebService, endpoint: Endpoint, rows: Table | None) -> Exported:
    """One endpoint's export; what cannot be exported does not keep the others back."""
    past, left = _past(session, endpoint)
    output = session.client.names(endpoint).output or SCORED_OUTPUT
    try:
        package = _package(session, service, endpoint, _live(endpoint, past), output, rows)
        scored = _scored(session, endpoint, package.rows)
        agreement = comparing.compared(package.model, scored, ExportedModel(package.graph).score(package.rows))
    except AzureMLClassicError as error:
        if error.retryable:
            raise
        return Exported(endpoint.name, reason=error.message)
    target = TARGETS[session.arguments.to]
    files = target.live(package)
    versions = [package]
    for one in _others(past, package.model.sha256)[: session.arguments.versions - 1]:
        try:
            versions.append(_package(session, service, endpoint, one, output, rows))
            files |= target.earlier(versions[-1])
        except AzureMLClassicError as error:
            left.append(f"The model {one.location.location}: {error.message}")
    files[report.VERSIONS] = report.versions_json(versions, target)
    _write(session.arguments.into / endpoint.name, files)
    return Exported(
        endpoint.name,
        sorted({f"{endpoint.name}/{name.partition('/')[0]}" for name in files}),
        agreement,
        facts=report.facts_of(package.model),
        versions=[one.version for one in versions],
        left=[*report.left_behind(endpoint, package.model), *left],
    )


def _past(session: Session, endpoint: Endpoint) -> tuple[Sequence[PastModel], list[str]]:
    """The models that the endpoint had, those put live last first; and why there are none."""
    if session.arguments.versions < 2:
        return (), []
    try:
        return session.client.perform(past_models(session.client, endpoint)), []
    except RequestRejected as error:
        return (), [f"Earlier models: {error.message}"]


def _live(endpoint: Endpoint, past: Sequence[PastModel]) -> PastModel | Resource:
    """What the service tells of the live model."""
    return next((one for one in past if one.is_live), endpoint.resource())


def _others(past: Sequence[PastModel], live: str) -> list[PastModel]:
    """Other models than the live one, each once.

    :param past: of the endpoint.
    :param live: SHA-256 of the live one's file.
    """
    found: dict[str, PastModel] = {}
    for one in past:
        digest = (one.digests.file if one.digests else None) or one.location.location
        if digest != live and not one.is_live:
            found.setdefault(digest, one)
    return list(found.values())


def _package(
    session: Session,
    service: WebService,
    endpoint: Endpoint,
    told: PastModel | Resource,
    output: str,
    rows: Table | None,
) -> Package:
    """A model, and what the service tells of it."""
    if told.location is None:
        raise rejection("ModelInvalid", "The service does not tell where its model is.")
    model = Model.read(session.client.fetch_blob(readable(session, told.location)))
    graph, asked = self_contained(model, output), rows or comparing.made_rows(model)
    return Package(service.name, endpoint.name, model, graph, asked, report.tags_of(model, told))


def _write(folder: Path, files: Files) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _scored(session: Session, endpoint: Endpoint, rows: Table) -> Table:
    """What the live endpoint answers, some hundred rows in a call."""
    answers = [session.client.score(endpoint, Table(rows.column_names, part)) for part in _batches(rows.values)]
    return Table(answers[0].column_names, [row for answer in answers for row in answer.values])


def _batches(rows: Sequence[Sequence[object]]) -> Iterator[Sequence[Sequence[object]]]:
    return (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))


def _row(one: Exported) -> dict[str, object]:
    agreement = one.agreement
    numbers = {} if agreement is None else {"rows": agreement.rows, "other_labels": agreement.labels}
    difference = {} if agreement is None else {"difference": f"{agreement.difference:.1e}"}
    about = {"endpoint": one.endpoint, "outcome": one.outcome, "versions": len(one.versions)}
    return {**about, **numbers, **difference, "reason": one.reason}
