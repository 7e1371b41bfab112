"""``azureml-classic export``: the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from airflow_provider_azureml_classic.cli.jobs import readable
from airflow_provider_azureml_classic.cli.session import DONE, KEPT, Session
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, RequestRejected
from airflow_provider_azureml_classic.exporting import azureml, comparing, mlflow, report
from airflow_provider_azureml_classic.exporting.comparing import Exported
from airflow_provider_azureml_classic.exporting.graph import self_contained
from airflow_provider_azureml_classic.exporting.libraries import check_libraries
from airflow_provider_azureml_classic.exporting.model import Model
from airflow_provider_azureml_classic.exporting.package import Files, Package
from airflow_provider_azureml_classic.exporting.runtime import GRAPH, ExportedModel
from airflow_provider_azureml_classic.protocol.jobs import SCORED_OUTPUT
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint, WebService
from airflow_provider_azureml_classic.tables.rows import parse_rows

#: What an export is made for: gives the files of one endpoint.
TARGETS: Mapping[str, Callable[[Package], Files]] = MappingProxyType(
    {"onnx": lambda package: {GRAPH: package.graph}, "mlflow": mlflow.files, "azureml-v2": azureml.files}
)
#: Rows in a call.
_BATCH = 500
_COLUMNS = ("endpoint", "outcome", "rows", "other_labels", "difference", "reason")


def export(session: Session) -> int:
    """Write the models of endpoints as another tool loads them, ask both, and report how far their answers differ."""
    check_libraries()
    arguments, into = session.arguments, session.arguments.into
    if into.exists() and any(into.iterdir()) and not arguments.overwrite:
        raise ValueError(f"{into} is not empty: name another folder, or say --overwrite.")
    service = session.client.find_web_service(arguments.service)
    rows = _rows(arguments.rows) if arguments.rows else None
    exports = [_exported(session, endpoint, rows) for endpoint in _endpoints(session, service)]
    into.mkdir(parents=True, exist_ok=True)
    (into / report.MARKDOWN).write_text(report.as_markdown(service.name, arguments.to, exports), encoding="utf-8")
    (into / report.JSON).write_text(report.as_json(service.name, arguments.to, exports), encoding="utf-8")
    session.out.rows([_row(one) for one in exports], _COLUMNS)
    session.out.say(f"What was compared, and what stays behind: {into / report.MARKDOWN}")
    return DONE if all(one.agreement and one.agreement.good for one in exports) else KEPT


def _endpoints(session: Session, service: WebService) -> list[Endpoint]:
    names = session.arguments.endpoints
    if not names:
        return list(session.client.list_endpoints(service.id))
    return [session.client.get_endpoint(service.id, name) for name in names]


def _rows(path: Path) -> Table:
    try:
        return parse_rows(path.read_bytes(), str(path))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except RequestRejected as error:
        raise ValueError(error.message) from None


def _exported(session: Session, endpoint: Endpoint, rows: Table | None) -> Exported:
    """One endpoint's export; what cannot be exported does not keep the others back."""
    try:
        model = Model.read(_model_file(session, endpoint))
        graph = self_contained(model, session.client.names(endpoint).output or SCORED_OUTPUT)
        asked = rows or comparing.made_rows(model)
        exported = ExportedModel(graph).score(asked)
        live = _scored(session, endpoint, asked)
    except AzureMLClassicError as error:
        if error.retryable:
            raise
        return Exported(endpoint.name, reason=error.message)
    package = Package(session.arguments.service, endpoint.name, model, graph, asked, report.tags_of(model))
    files = TARGETS[session.arguments.to](package)
    _write(session.arguments.into / endpoint.name, files)
    return Exported(
        endpoint.name,
        [f"{endpoint.name}/{name}" for name in files if "/" not in name],
        comparing.compared(model, live, exported),
        facts=report.facts_of(model),
        left=report.left_behind(endpoint, model),
    )


def _write(folder: Path, files: Files) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _model_file(session: Session, endpoint: Endpoint) -> bytes:
    resource = endpoint.resource()
    if resource.location is None:
        raise ValueError(f"The service does not tell where the model of {resource.name!r} is.")
    return session.client.fetch_blob(readable(session, resource.location))


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
    return {"endpoint": one.endpoint, "outcome": one.outcome, **numbers, **difference, "reason": one.reason}
