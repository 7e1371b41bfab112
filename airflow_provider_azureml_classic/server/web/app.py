"""The service as a function: match, authorize, decode, one call of the core, encode.

It does no I/O of HTTP and is itself a transport, so a client can be handed a server instead of a network.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_azureml_classic import __version__
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol import inference
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.approval import Approval
from airflow_provider_azureml_classic.protocol.customers import (
    MAX_FILES,
    Quota,
    customer_to_wire,
    file_to_wire,
    files_to_wire,
)
from airflow_provider_azureml_classic.protocol.drift import DriftPage, Terms
from airflow_provider_azureml_classic.protocol.errors import known_members, to_response
from airflow_provider_azureml_classic.protocol.job_history import read_limit, read_page, write_log
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.keys import KeyType, key_request
from airflow_provider_azureml_classic.protocol.management import management_document
from airflow_provider_azureml_classic.protocol.messages import JSON_TYPE, Request, Response
from airflow_provider_azureml_classic.protocol.model_scoring import ModelCall
from airflow_provider_azureml_classic.protocol.not_offered import not_offered
from airflow_provider_azureml_classic.protocol.pages import (
    AFTER_PARAMETER,
    BEFORE_PARAMETER,
    LIMIT_PARAMETER,
    limit_of,
)
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.studio import NO_DATA_SETS, workspace_to_wire
from airflow_provider_azureml_classic.protocol.swagger import api_document
from airflow_provider_azureml_classic.protocol.tables import INPUTS, RESULTS
from airflow_provider_azureml_classic.protocol.values import EndpointSettings, boolean
from airflow_provider_azureml_classic.server.blobs.disk import as_unavailable
from airflow_provider_azureml_classic.server.counters.drift import Drift
from airflow_provider_azureml_classic.server.help import pages
from airflow_provider_azureml_classic.server.help.description import Describer, Facts
from airflow_provider_azureml_classic.server.jobs.jobs import Jobs
from airflow_provider_azureml_classic.server.state.tables import EndpointRow
from airflow_provider_azureml_classic.server.web import json_body as json_text
from airflow_provider_azureml_classic.server.web.call import Call
from airflow_provider_azureml_classic.server.web.lanes import Lane, lane
from airflow_provider_azureml_classic.server.web.lists import listed
from airflow_provider_azureml_classic.server.workspace.audit import Audit
from airflow_provider_azureml_classic.server.workspace.customers import Customer, Customers
from airflow_provider_azureml_classic.server.workspace.keys import Keys
from airflow_provider_azureml_classic.server.workspace.rehearsals import Rehearsals
from airflow_provider_azureml_classic.server.workspace.scoring import Scoring
from airflow_provider_azureml_classic.server.workspace.updates import Updates
from airflow_provider_azureml_classic.server.workspace.workspace import Caller, Workspace

log = logging.getLogger(__name__)


def _inference_health(call: Call) -> Response:
    return _json({call.operation.path.rpartition("/")[2]: True})  # live, ready


def _json(data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, {**JSON_TYPE, **(headers or {})}, json_text.write(data))


#: Of answers that hold keys, tokens or somebody's data; whoever may cache the others is told by their own headers.
NOT_KEPT: Mapping[str, str] = {"cache-control": "no-store"}
_KEPT: Mapping[str, str] = {}


class App:
    """All operations of the service.

    :param workspace: web services and endpoints.
    :param updates: patches of endpoints.
    :param jobs: batch jobs.
    :param scoring: the request/response service.
    :param describer: says what everybody may know of an endpoint.
    :param drift: says how far what is asked is from what was trained.
    :param customers: those who are kept apart.
    :param keys: named keys of endpoints.
    :param audit: the list of who has changed what.
    :param rehearsals: says what an update would change.
    :cvar waits: it may wait before it answers, so that all calls need threads.
    """

    waits = False

    def __init__(
        self,
        workspace: Workspace,
        updates: Updates,
        jobs: Jobs,
        scoring: Scoring,
        describer: Describer,
        drift: Drift,
        customers: Customers,
        keys: Keys,
        audit: Audit,
        rehearsals: Rehearsals,
    ) -> None:
        self._audit = audit
        self._customers, self._quotas, self._keys = customers, customers.quotas, keys
        self._workspace = workspace
        self._updates = updates
        self._jobs = jobs
        self._scoring = scoring
        self._describer = describer
        self._rehearsals, self._drift = rehearsals, drift
        self._handlers: dict[ops.Operation, Callable[[Call], Response]] = {
            ops.LIST_SERVICES: self._list_services,
            ops.GET_SERVICE: self._get_service,
            ops.DELETE_SERVICE: self._delete_service,
            ops.LIST_ENDPOINTS: self._list_endpoints,
            ops.GET_ENDPOINT: self._get_endpoint,
            ops.ADD_ENDPOINT: self._add_endpoint,
            ops.PATCH_ENDPOINT: self._patch_endpoint,
            ops.REHEARSE_UPDATE: self._rehearse_update,
            ops.DELETE_ENDPOINT: self._delete_endpoint,
            ops.REFRESH_ENDPOINT: self._refresh_endpoint,
            ops.LIST_MODELS: self._list_models,
            ops.REGENERATE_KEYS: self._regenerate_keys,
            ops.SCORE_MODEL: self._score_model,
            ops.GET_WORKSPACE: self._get_workspace,
            ops.LIST_DATA_SETS: self._list_data_sets,
            ops.GET_DRIFT: self._get_drift,
            ops.LIST_AUDIT: self._list_audit,
            **self._of_jobs(),
            ops.SCORE: self._score,
            ops.READ_ROWS: self._read_rows,
            **self._of_customers(),
            **dict.fromkeys((ops.INFERENCE_LIVE, ops.INFERENCE_READY), _inference_health),
            ops.INFERENCE_SERVER: lambda _: _json(inference.server_to_wire(__version__)),
            **dict.fromkeys((ops.INFERENCE_MODEL, ops.INFERENCE_VERSION), self._inference_model),
            **dict.fromkeys((ops.INFERENCE_MODEL_READY, ops.INFERENCE_VERSION_READY), self._inference_ready),
            **dict.fromkeys((ops.INFER, ops.INFER_VERSION), self._infer),
            **dict.fromkeys(pages.PAGES, self._help),
            ops.HELP_STYLE: lambda _: pages.style(),
            **dict.fromkeys((ops.API_DOCUMENT, ops.HELP_DOCUMENT, ops.SWAGGER), self._api_document),
            ops.MANAGEMENT_DOCUMENT: lambda _: _json(management_document(describer.public_url)),
        }

    def __call__(self, request: Request) -> Response:
        """Answer a request: the signature of a transport.

        :param request: as a client sends it.
        """
        parts = urlsplit(request.url)
        response = self.answer(request.operation.method, parts.path, parts.query, request.headers, request.body)
        return response.joined()

    def answer(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Answer a request; whatever goes wrong is an error in the protocol's shape.

        :param method: HTTP method.
        :param path: raw path, still percent-encoded.
        :param query: raw query.
        :param headers: names in lower case.
        :param body: the whole body.
        """
        request_id = secrets.token_hex(16)
        try:
            call = self._matched(request_id, method, path, query, headers, body)
            response = self._audited(call) if call.operation.changes else self._handlers[call.operation](call)
            kept = _KEPT if call.operation.credential is ops.Credential.NONE else NOT_KEPT
            return replace(response, headers={**response.headers, **kept, ops.REQUEST_ID: request_id})
        except AzureMLClassicError as error:
            return self.refuse(method, path, error, request_id)
        except Exception as error:
            if told := as_unavailable(error):
                log.error("%s %s %s: %s", request_id, method, path, error)
                return self.refuse(method, path, told, request_id)
            log.exception("%s %s %s failed", request_id, method, path)
            failed = rejection("UnknownError", "The server failed; its log has the reason.")
            return to_response(failed, {ops.REQUEST_ID: request_id})

    def _audited(self, call: Call) -> Response:
        target = " / ".join(value for name, value in call.segments.items() if name != "workspace")
        with self._audit.entry(self._audit.who(call.key), call.operation.name, target) as outcome:
            response = self._handlers[call.operation](call)
            outcome.status = response.status
            return response

    def refuse(self, method: str, path: str, error: AzureMLClassicError, request_id: str | None = None) -> Response:
        """The answer to a request that went wrong; it is logged with its id.

        :param method: HTTP method.
        :param path: raw path.
        :param error: what went wrong.
        :param request_id: of the answer; a new one by default.
        """
        headers = {ops.REQUEST_ID: request_id or secrets.token_hex(16)}
        if error.status == 503:
            headers[ops.RETRY_AFTER] = "1"
        if error.status == 405:
            headers[ops.ALLOW] = ", ".join(sorted(ops.match(method, path)[2]))
        log.info("%s %s %s %s %s", headers[ops.REQUEST_ID], method, path, error.status, error.detail_code)
        return (
            inference.refusal(error, headers) if path.startswith(inference.ROOT + "/") else to_response(error, headers)
        )

    def lane(self, method: str, path: str, body: bytes) -> Lane:
        """Where a request is answered.

        :param method: HTTP method.
        :param path: raw path.
        :param body: the whole body.
        """
        usual = lane(method, path, body, self._workspace, self._scoring)
        return Lane.THREAD if self.waits and usual is Lane.LOOP else usual

    def admit(self, method: str, path: str, query: str, headers: Mapping[str, str]) -> None:
        """Return if whoever asks may ask for this: of nobody else more than a small body is held.

        :param method: HTTP method.
        :param path: raw path.
        :param query: raw query.
        :param headers: names in lower case.
        :raises AzureMLClassicError: as the call itself would be refused.
        """
        call = self._matched("", method, path, query, headers, b"")
        credential, names = call.operation.credential, call.segments
        if credential is ops.Credential.NONE:
            raise rejection("RequestBodyTooLarge", "This call takes no body.")
        if "model" in names:
            self._workspace.endpoint_of_model(names["model"], call.key, call.operation)
        elif "workspace" not in names:
            self._customer(call)
        elif credential is ops.Credential.ENDPOINT:
            self._endpoint(call)
        else:
            self._caller(call)

    def _matched(
        self, request_id: str, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> Call:
        operation, segments, allowed = ops.match(method, path)
        if operation is None:
            absent = not_offered(method, path)
            if absent is not None:
                raise absent
            if allowed:
                raise rejection("MethodNotAllowed", f"{method} is not allowed here; use {', '.join(sorted(allowed))}.")
            raise rejection("PageNotFound", f"There is nothing at {path}.")
        values = ops.query_values(query)
        if operation.versioned and values.get(ops.VERSION_PARAMETER, operation.default_version) != ops.API_VERSION:
            version = f"{ops.VERSION_PARAMETER}={ops.API_VERSION}"
            raise rejection("BadVersionCall", f"The query must have {version}.")
        return Call(operation, segments, values, headers, body, request_id)

    # -- web services and endpoints ----------------------------------------------------------------------------------

    def _caller(self, call: Call) -> Caller:
        return self._workspace.caller(call.segments["workspace"], call.key, call.operation)

    def _owner(self, call: Call) -> None:
        if self._caller(call).endpoint is not None:
            raise rejection("AdminRequestUnauthorized", "Web services are managed with the workspace token only.")

    def _list_services(self, call: Call) -> Response:
        self._owner(call)
        answer = listed(call.query, self._workspace.service_page)
        # To those alone who have the workspace token.
        return replace(answer, headers={**answer.headers, ops.SERVER_VERSION: __version__})

    def _get_service(self, call: Call) -> Response:
        self._owner(call)
        return _json(self._workspace.service(call.segments["service"]).to_wire())

    def _delete_service(self, call: Call) -> Response:
        self._owner(call)
        self._workspace.delete_service(call.segments["service"])
        return Response(204)

    def _list_endpoints(self, call: Call) -> Response:
        caller, service = self._caller(call), call.segments["service"]
        return listed(call.query, partial(self._workspace.endpoint_page, caller, service))

    def _get_endpoint(self, call: Call) -> Response:
        caller = self._caller(call)
        _, row = self._workspace.endpoint(caller, call.segments["service"], call.segments["endpoint"])
        endpoint = self._workspace.view(row, caller)
        return _json(endpoint.to_wire(), headers={ops.ETAG: endpoint.etag or ""})

    def _add_endpoint(self, call: Call) -> Response:
        caller = self._caller(call)
        settings = EndpointSettings.from_wire(call.json() if call.body.strip() else {})
        endpoint, new = self._workspace.add_endpoint(
            caller, call.segments["service"], call.segments["endpoint"], settings
        )
        headers = {ops.ETAG: endpoint.etag or ""}
        return _json(endpoint.to_wire(), status=201 if new else 200, headers=headers)

    def _patch_endpoint(self, call: Call) -> Response:
        caller, purpose = self._caller(call), Purpose.from_headers(call.headers)
        endpoint = self._updates.patch(
            caller,
            call.segments["service"],
            call.segments["endpoint"],
            EndpointSettings.from_wire(call.json()),
            call.headers.get(ops.IF_MATCH),
            call.headers.get(ops.MODEL_FILE, "").strip().lower() or None,
            Approval.from_headers(call.headers),
            purpose.end if purpose else None,
        )
        return _json(endpoint.to_wire(), headers={ops.ETAG: endpoint.etag or ""})

    def _rehearse_update(self, call: Call) -> Response:
        caller = self._caller(call)
        settings = EndpointSettings.from_wire(call.json())
        digest = call.headers.get(ops.MODEL_FILE, "").strip().lower() or None
        names = call.segments["service"], call.segments["endpoint"]
        return _json(self._rehearsals.rehearse(caller, *names, settings, digest).to_json())

    def _delete_endpoint(self, call: Call) -> Response:
        caller = self._caller(call)
        self._workspace.delete_endpoint(caller, call.segments["service"], call.segments["endpoint"])
        return Response(204)

    def _refresh_endpoint(self, call: Call) -> Response:
        caller = self._caller(call)
        body = (call.json() if call.body.strip() else None) or {}
        if not isinstance(body, Mapping):
            raise rejection("RequestBodyInvalid", f"The body must be an object with {ops.OVERWRITE_RESOURCES}.")
        body = known_members("The body", body, frozenset({ops.OVERWRITE_RESOURCES}))
        overwrite = boolean(ops.OVERWRITE_RESOURCES, body.get(ops.OVERWRITE_RESOURCES)) or False
        changed = self._workspace.refresh(
            caller, call.segments["service"], call.segments["endpoint"], overwrite=overwrite
        )
        return Response(200 if changed else 304)

    def _list_models(self, call: Call) -> Response:
        caller = self._caller(call)
        limit, before = read_page(call.query)
        page = self._updates.models(caller, call.segments["service"], call.segments["endpoint"], limit, before)
        return _json(page.to_wire())

    def _regenerate_keys(self, call: Call) -> Response:
        caller = self._caller(call)
        which = KeyType.from_wire(call.json())
        endpoint = self._workspace.regenerate(caller, call.segments["service"], call.segments["endpoint"], which)
        return _json(endpoint.to_wire(), headers={ops.ETAG: endpoint.etag or ""})

    def _score_model(self, call: Call) -> Response:
        caller = self._caller(call)
        asked = ModelCall.from_wire(call.json())
        answers = self._updates.score(caller, call.segments["service"], call.segments["endpoint"], asked)
        return _json(answers.to_wire())

    def _get_workspace(self, call: Call) -> Response:
        self._owner(call)
        return _json(workspace_to_wire(call.segments["workspace"]))

    def _list_data_sets(self, call: Call) -> Response:
        self._owner(call)
        return _json([dict(item) for item in NO_DATA_SETS])

    def _get_drift(self, call: Call) -> Response:
        self._owner(call)
        service = self._workspace.service_row(call.segments["service"])
        terms, first = Terms.from_query(call.query), AFTER_PARAMETER not in call.query
        return _json(DriftPage.of(self._drift.of_service(service.id, terms, anew=first), call.query).to_wire())

    def _list_audit(self, call: Call) -> Response:
        self._owner(call)
        limit, before = read_page(call.query)
        return _json(self._audit.page(limit, before).to_wire())

    # -- jobs and scoring --------------------------------------------------------------------------------------------

    def _of_jobs(self) -> dict[ops.Operation, Callable[[Call], Response]]:
        return {
            ops.SUBMIT_JOB: self._submit_job,
            ops.START_JOB: self._start_job,
            ops.GET_JOB: self._get_job,
            ops.CANCEL_JOB: self._cancel_job,
            ops.LIST_JOBS: self._list_jobs,
            ops.GET_JOB_LOG: self._get_job_log,
        }

    def _endpoint(self, call: Call) -> EndpointRow:
        return self._workspace.endpoint_for_call(
            call.segments["workspace"], call.segments["endpoint_id"], call.key, call.operation
        )

    def _submit_job(self, call: Call) -> Response:
        endpoint = self._endpoint(call)
        purpose = Purpose.from_headers(call.headers)
        return _json(self._jobs.submit(endpoint, replace(JobRequest.from_wire(call.json()), purpose=purpose)))

    def _start_job(self, call: Call) -> Response:
        self._jobs.start(self._endpoint(call), call.segments["job"])
        return Response(200)

    def _get_job(self, call: Call) -> Response:
        return _json(self._jobs.get(self._endpoint(call), call.segments["job"]).to_wire())

    def _cancel_job(self, call: Call) -> Response:
        self._jobs.cancel(self._endpoint(call), call.segments["job"])
        return Response(200)

    def _readable(self, call: Call) -> EndpointRow:
        """The endpoint, for its own key or the workspace token."""
        segments = call.segments
        return self._workspace.endpoint_for_reading(
            segments["workspace"], segments["endpoint_id"], call.key, call.operation
        )

    def _list_jobs(self, call: Call) -> Response:
        limit = read_limit(call.query.get(LIMIT_PARAMETER))
        return _json(self._jobs.page(self._readable(call), limit, call.query.get(BEFORE_PARAMETER)).to_wire())

    def _get_job_log(self, call: Call) -> Response:
        return _json(write_log(self._jobs.log(self._readable(call), call.segments["job"])))

    def _score(self, call: Call) -> Response:
        answer, content = self._scoring.execute(
            self._endpoint(call),
            call.json,
            call.request_id,
            swagger=ops.wants_objects(call.query),
            details=ops.wants_types(call.query),
            keep=ops.TRIAL not in call.headers,
        )
        response = _json(answer)
        return replace(response, headers={**response.headers, ops.MODEL_HEADER: content})

    def _read_rows(self, call: Call) -> Response:
        name = call.query.get(ops.FILE_PARAMETER, "")
        return _json(self._scoring.read_rows(self._endpoint(call), call.body, name).to_wire())

    # -- customers who are kept apart --------------------------------------------------------------------------------

    def _of_customers(self) -> dict[ops.Operation, Callable[[Call], Response]]:
        return {
            ops.GET_CUSTOMER: self._get_customer,
            ops.LIST_FILES: self._list_files,
            ops.SIGN_FILE: self._sign_file,
            ops.WRITE_FILE: self._write_file,
            ops.DELETE_FILE: self._delete_file,
            ops.LIST_KEYS: self._list_keys,
            ops.MAKE_KEY: self._make_key,
            ops.REVOKE_KEY: self._revoke_key,
            ops.GET_QUOTA: self._get_quota,
            ops.SET_QUOTA: self._set_quota,
            ops.SIGN_BLOB: self._sign_blob,
        }

    def _customer(self, call: Call) -> Customer:
        return self._customers.with_key(call.key, call.operation)

    def _get_customer(self, call: Call) -> Response:
        customer, view = self._customer(call), self._workspace.view
        rows = (customer.training, customer.scoring)
        training, scoring = (view(row, customer.caller) if row else None for row in rows)
        return _json(customer_to_wire(customer.name, customer.folder, training, scoring))

    def _list_files(self, call: Call) -> Response:
        customer, limit = self._customer(call), limit_of(call.query.get(LIMIT_PARAMETER), MAX_FILES, MAX_FILES)
        files = self._customers.files(customer, limit + 1, call.query.get(AFTER_PARAMETER, ""))
        return _json(files_to_wire(files, limit))

    def _sign_file(self, call: Call) -> Response:
        return _json(file_to_wire(self._customers.signed(self._customer(call), call.segments["file"])))

    def _sign_blob(self, call: Call) -> Response:
        self._owner(call)
        return _json(self._customers.opened(BlobReference.from_wire(call.json())).to_wire())

    def _write_file(self, call: Call) -> Response:
        reference = self._customers.write(self._customer(call), call.segments["file"], call.body)
        return _json(reference.to_wire(), status=201)

    def _delete_file(self, call: Call) -> Response:
        self._customers.delete(self._customer(call), call.segments["file"])
        return Response(204)

    def _managed(self, call: Call) -> EndpointRow:
        return self._workspace.endpoint(self._caller(call), call.segments["service"], call.segments["endpoint"])[1]

    def _list_keys(self, call: Call) -> Response:
        return _json([key.to_wire() for key in self._keys.listed(self._managed(call))])

    def _make_key(self, call: Call) -> Response:
        row = self._managed(call)
        return _json(self._keys.make(row, call.segments["key"], *key_request(call.json())).to_wire(), status=201)

    def _revoke_key(self, call: Call) -> Response:
        self._keys.revoke(self._managed(call), call.segments["key"])
        return Response(204)

    def _get_quota(self, call: Call) -> Response:
        row = self._managed(call)
        return _json({**self._quotas.quota(row).to_wire(), **self._quotas.usage(row).to_wire()})

    def _set_quota(self, call: Call) -> Response:
        self._owner(call)
        row = self._managed(call)
        self._quotas.set(row, Quota.from_wire(call.json()))
        return _json({**self._quotas.quota(row).to_wire(), **self._quotas.usage(row).to_wire()})

    # -- the Open Inference Protocol ---------------------------------------------------------------------------------

    def _inference_model(self, call: Call) -> Response:
        endpoint = self._workspace.endpoint_of_model(call.segments["model"], call.key, call.operation)
        content, columns = self._scoring.columns(endpoint)
        inference.check_version(call.segments.get("version"), content)
        return _json(inference.model_to_wire(call.segments["model"], content, columns.inputs, columns.outputs))

    def _inference_ready(self, call: Call) -> Response:
        endpoint = self._workspace.endpoint_of_model(call.segments["model"], call.key, call.operation)
        inference.check_version(call.segments.get("version"), self._scoring.columns(endpoint)[0])
        return _json({"name": call.segments["model"], "ready": True})

    def _infer(self, call: Call) -> Response:
        model = call.segments["model"]
        endpoint = self._workspace.endpoint_of_model(model, call.key, call.operation)
        source, output = self._scoring.names(endpoint)
        named = ""

        def read() -> dict[str, Any]:
            nonlocal named
            length = call.headers.get(inference.HEADER_LENGTH)
            named, table = inference.read_request(call.body, length, lambda part: replace(call, body=part).json())
            return {INPUTS: {source: table.to_wire()}}

        answer, content = self._scoring.execute(endpoint, read, call.request_id, swagger=False, details=True, keep=True)
        inference.check_version(call.segments.get("version"), content)  # of the model that did answer
        table = answer[RESULTS][output]["value"]
        return _json(inference.answer_to_wire(model, content, named, table))

    # -- what everybody may read -------------------------------------------------------------------------------------

    def _described(self, call: Call) -> Facts:
        names = call.segments
        endpoint = names.get("endpoint") or names["endpoint_id"]
        if "service" in names:
            return self._describer.managed(names["workspace"], names["service"], endpoint, call.key, call.operation)
        return self._describer.called(names["workspace"], endpoint, call.key, call.operation)

    def _help(self, call: Call) -> Response:
        return pages.page(call.operation, self._described(call))

    def _api_document(self, call: Call) -> Response:
        return _json(api_document(self._described(call).api))
