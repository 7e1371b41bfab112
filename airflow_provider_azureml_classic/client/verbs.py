"""The verbs of the service, each written once as a generator of requests.

A method marked :class:`verb` returns its result on a blocking client and an awaitable of it on an asynchronous one;
``method.steps(client, ...)`` is the bare generator, for use inside another verb.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from airflow_provider_azureml_classic.client.administration import (
    get_quota,
    list_audit,
    list_keys,
    make_key,
    regenerate_key,
    revoke_key,
    set_quota,
)
from airflow_provider_azureml_classic.client.answers import (
    BlobFacts,
    ServiceFacts,
    ask,
    ask_addition,
    check,
    check_offered,
    clean_url,
    decoded,
    encoded,
    offered,
    output_of,
    the_service,
)
from airflow_provider_azureml_classic.client.drift import drift_pages
from airflow_provider_azureml_classic.client.integrity import is_sha256
from airflow_provider_azureml_classic.client.listing import list_endpoints, list_web_services
from airflow_provider_azureml_classic.client.model_pages import list_models
from airflow_provider_azureml_classic.client.retries import Steps
from airflow_provider_azureml_classic.client.uploads import sign_blob, upload_in_blocks
from airflow_provider_azureml_classic.client.verb import verb
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, NotFound, ProtocolError, RequestRejected
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.approval import Approval
from airflow_provider_azureml_classic.protocol.drift import EndpointDrift, Terms
from airflow_provider_azureml_classic.protocol.job_history import PAGE, JobPage, LogLine, page_query, read_log
from airflow_provider_azureml_classic.protocol.jobs import INPUT, Job, JobRequest, read_job_id
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.model_scoring import ModelAnswers, ModelCall
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.rehearsal import Rehearsal
from airflow_provider_azureml_classic.protocol.swagger import Names
from airflow_provider_azureml_classic.protocol.tables import GLOBAL_PARAMETERS, INPUTS, Table
from airflow_provider_azureml_classic.protocol.values import (
    API_LOCATION,
    OVERWRITE_RESOURCES,
    Endpoint,
    EndpointSettings,
    Resource,
    WebService,
)

#: Seconds allowed for a rehearsal: two models answer up to 10,000 rows, others perhaps before them.
REHEARSAL_TIMEOUT = 180.0
#: Seconds allowed for a scoring call (azure-docs ``stream-analytics-scale-with-machine-learning-functions``).
SCORE_TIMEOUT = 100.0


class Verbs:
    """What both clients can do.

    :param management_url: base of the management calls, for example ``https://management.azureml.net``.
    :param workspace_id: 32 hex digits.
    :param token: workspace authorization token; may be empty if only endpoints with their own keys are used.
    :param timeout: seconds allowed for one call.
    :param on_secret: told of every key and token once, as it is read, so that it can be masked; of those in a list as
        they are used: a masker that knew thousands would hold up every line of a log.
    """

    def __init__(
        self,
        management_url: str,
        workspace_id: str,
        token: str = "",
        *,
        timeout: float = 30.0,
        on_secret: Callable[[str], None] | None = None,
    ) -> None:
        self.management_url = clean_url(management_url)
        self.workspace_id = workspace_id.strip()
        self.timeout = timeout
        self._token = token.strip()
        self._on_secret = on_secret or (lambda secret: None)
        self._secrets_told: set[str] = set()
        #: Keys that took the place of others, by `ApiLocation` and the other: whoever waits has read its endpoint once.
        self._renewed: dict[tuple[str, str], str] = {}
        #: Names of the inputs of scoring calls that are not the usual one, by `ApiLocation`.
        self._inputs: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.management_url!r}, workspace_id={self.workspace_id!r})"

    # -- web services and endpoints --------------------------------------------------------------------------------

    @verb
    def service_facts(self) -> Steps[ServiceFacts]:
        """What the service tells of itself, beside its web services."""
        request = self._management(ops.LIST_SERVICES)
        return ServiceFacts.of(request, (yield from ask(request)))

    @verb
    def get_web_service(self, service_id: str) -> Steps[WebService]:
        """One web service, by id.

        :param service_id: 32 hex digits.
        """
        data = yield from self._manage(ops.GET_SERVICE, service=service_id)
        return WebService.from_wire(data)

    @verb
    def find_web_service(self, name_or_id: str) -> Steps[WebService]:
        """The web service with this id, or the only one with this name.

        :param name_or_id: as in the list of web services.
        :raises NotFound: none has it, or several have the name; the message lists what is there.
        """
        services = yield from Verbs.list_web_services.steps(self)
        return the_service(services, name_or_id.strip(), self.workspace_id)

    @verb
    def delete_web_service(self, service_id: str) -> Steps[None]:
        """Delete a web service with its endpoints.

        :param service_id: 32 hex digits.
        """
        yield from ask(self._management(ops.DELETE_SERVICE, service=service_id))

    @verb
    def get_endpoint(self, service_id: str, name: str) -> Steps[Endpoint]:
        """One endpoint, with its keys and the ``ETag`` of its state if the server sends one.

        :param service_id: 32 hex digits.
        :param name: the endpoint's name.
        """
        request = self._management(ops.GET_ENDPOINT, service=service_id, endpoint=name.strip())
        response = yield from ask(request)
        return self._masked(Endpoint.from_wire(decoded(request, response), etag=response.headers.get(ops.ETAG)))

    @verb
    def add_endpoint(self, service_id: str, name: str, settings: EndpointSettings | None = None) -> Steps[Endpoint]:
        """Add an endpoint, or update the settings of the one with that name.

        :param service_id: 32 hex digits.
        :param name: 1 to 24 lower-case letters and digits.
        :param settings: what to set; the server's defaults otherwise.
        """
        body = encoded((settings or EndpointSettings()).to_wire())
        request = self._management(ops.ADD_ENDPOINT, body, service=service_id, endpoint=name.strip())
        response = yield from ask(request)
        data = decoded(request, response) if response.body.strip() not in (b"", b"null") else None
        if isinstance(data, Mapping) and data.get(API_LOCATION):
            return self._masked(Endpoint.from_wire(data))
        return (yield from Verbs.get_endpoint.steps(self, service_id, name))

    @verb
    def patch_endpoint(
        self,
        endpoint: Endpoint,
        settings: EndpointSettings,
        *,
        if_match: str | None = None,
        model_file: str | None = None,
        approval: Approval | None = None,
        purpose: Purpose | None = None,
    ) -> Steps[None]:
        """Change an endpoint's settings or the location of its trained models.

        The endpoint's own key is tried first, as documented, then the workspace token (wire document, 14.8).

        :param endpoint: the endpoint, as read before.
        :param settings: what to change.
        :param if_match: ``ETag`` that the endpoint must still have; servers that do not know it ignore it.
        :param model_file: SHA-256 of the file of the model that is meant, where only one is put in place. Our addition:
            the server takes no other one, and takes its own copy of one that the endpoint had before.
        :param approval: who has agreed, for the history that our server keeps.
        :param purpose: the window that is meant, where trainings of several wrote the same file. Our addition.
        :raises RequestRejected: with status 412 when the endpoint has changed since.
        """
        facts = {**(approval.to_header() if approval else {}), **(purpose.to_header() if purpose else {})}
        headers = {ops.IF_MATCH: if_match, ops.MODEL_FILE: model_file, **facts}
        check(*(yield from self._of_endpoint(ops.PATCH_ENDPOINT, endpoint, settings, headers)))

    def _of_endpoint(
        self,
        operation: ops.Operation,
        endpoint: Endpoint,
        settings: EndpointSettings,
        headers: Mapping[str, str | None],
        timeout: float | None = None,
    ) -> Generator[Request, Response, tuple[Request, Response]]:
        """Ask with the endpoint's own key, then with the workspace token."""
        sent, body = {name: value for name, value in headers.items() if value}, encoded(settings.to_wire())
        names = {"service": endpoint.web_service_id, "endpoint": endpoint.name}
        for key in tuple(filter(None, (endpoint.primary_key, self._token))) or ("",):
            request = replace(self._management(operation, body, sent, key, **names), timeout=timeout or self.timeout)
            response = yield request
            if response.status not in (401, 403):
                break
        return request, response

    @verb
    def rehearse_update(
        self, endpoint: Endpoint, resource: Resource, *, model_file: str | None = None
    ) -> Steps[Rehearsal]:
        """What an update would change, on the last calls that an endpoint keeps; nothing is put in place. Our addition.

        :param endpoint: the endpoint, as read before.
        :param resource: which of its models, and where the new one is.
        :param model_file: SHA-256 of the file of the model that is meant.
        :raises RequestRejected: ``OperationNotSupported``: the service does not have this call.
        """
        settings, headers = EndpointSettings(resources=(resource,)), {ops.MODEL_FILE: model_file}
        steps = self._of_endpoint(ops.REHEARSE_UPDATE, endpoint, settings, headers, REHEARSAL_TIMEOUT)
        request, response = yield from steps
        check_offered(request, response, "rehearses an update", "Judge the model by a gate.")
        return Rehearsal.from_json(decoded(request, response))

    @verb
    def refresh_endpoint(self, service_id: str, name: str, *, overwrite_resources: bool = False) -> Steps[bool]:
        """Bring an endpoint to the graph of its service's default endpoint.

        :param service_id: 32 hex digits.
        :param name: the endpoint's name.
        :param overwrite_resources: replace its trained models too, which undoes a patch.
        :return: whether anything changed.
        """
        body = encoded({OVERWRITE_RESOURCES: str(overwrite_resources)})
        request = self._management(ops.REFRESH_ENDPOINT, body, service=service_id, endpoint=name)
        response = yield from ask(request, unchanged=True)
        return response.status != 304

    @verb
    def delete_endpoint(self, service_id: str, name: str) -> Steps[None]:
        """Delete an endpoint.

        :param service_id: 32 hex digits.
        :param name: the endpoint's name.
        """
        yield from ask(self._management(ops.DELETE_ENDPOINT, service=service_id, endpoint=name))

    # -- batch jobs and scoring ------------------------------------------------------------------------------------

    @verb
    def submit_job(self, endpoint: Endpoint, job: JobRequest) -> Steps[str]:
        """Register a job without starting it.

        :param endpoint: endpoint of the service that runs it.
        :param job: inputs, outputs and parameters.
        :return: the job's id.
        """
        headers = job.purpose.to_header() if job.purpose else {}
        _, response = yield from self._call(endpoint, ops.SUBMIT_JOB, encoded(job.to_wire()), headers=headers)
        return read_job_id(response.body)

    @verb
    def start_job(self, endpoint: Endpoint, job_id: str) -> Steps[None]:
        """Start a registered job.

        :param endpoint: the endpoint it was submitted to.
        :param job_id: answer of :meth:`submit_job`.
        """
        yield from self._call(endpoint, ops.START_JOB, job=job_id)

    @verb
    def get_job(self, endpoint: Endpoint, job_id: str) -> Steps[Job]:
        """State of a job; each answer for a finished one carries fresh SAS tokens.

        :param endpoint: the endpoint it was submitted to.
        :param job_id: answer of :meth:`submit_job`.
        """
        request, response = yield from self._call(endpoint, ops.GET_JOB, job=job_id)
        job = Job.from_wire(job_id, decoded(request, response))
        self._mask(job.secrets)
        return job

    @verb
    def cancel_job(self, endpoint: Endpoint, job_id: str) -> Steps[None]:
        """Cancel a job in whatever state it is.

        :param endpoint: the endpoint it was submitted to.
        :param job_id: answer of :meth:`submit_job`.
        """
        yield from self._call(endpoint, ops.CANCEL_JOB, job=job_id)

    @verb
    def score(
        self,
        endpoint: Endpoint,
        rows: Table | Sequence[Mapping[str, Any]],
        *,
        input_name: str | None = None,
        output_name: str | None = None,
        global_parameters: Mapping[str, Any] | None = None,
    ) -> Steps[Table]:
        """Score rows through the request/response service.

        :param endpoint: endpoint of a scoring service.
        :param rows: a table, or one mapping a row.
        :param input_name: name of the web service input; by default ``input1``, or what the service calls it.
        :param output_name: name of the web service output; by default the only one.
        :param global_parameters: web service parameters by name.
        :return: the output table; cells are strings, with ``ColumnTypes``.
        """
        options: Any = {"input_name": input_name, "output_name": output_name, "global_parameters": global_parameters}
        return (yield from Verbs.score_by.steps(self, endpoint, rows, **options))[0]

    @verb
    def score_by(
        self,
        endpoint: Endpoint,
        rows: Table | Sequence[Mapping[str, Any]],
        *,
        input_name: str | None = None,
        output_name: str | None = None,
        global_parameters: Mapping[str, Any] | None = None,
        trial: bool = False,
    ) -> Steps[tuple[Table, str | None]]:
        """Score rows as :meth:`score`, and learn which model answered.

        :param trial: it is only to show which model is live; a service of ours keeps no such call for rehearsals.
        :return: also the content digest of the model, ``None`` where the service does not tell.
        """
        table, parameters = Table.of(rows).to_wire(), dict(global_parameters or {})
        headers = {ops.TRIAL: "1"} if trial else {}

        def asked(name: str) -> Generator[Request, Response, tuple[Request, Response]]:
            body = encoded({INPUTS: {name: table}, GLOBAL_PARAMETERS: parameters})
            return self._call(endpoint, ops.SCORE, body, query=[ops.WITH_TYPES], headers=headers)

        name = input_name or self._inputs.get(endpoint.api_location, INPUT)
        try:
            request, response = yield from asked(name)
        except RequestRejected as error:
            is_refused = input_name is None and error.detail_code == "InvalidInputNames"
            other = (yield from Verbs.names.steps(self, endpoint)).input if is_refused else None
            if other is None or other == name:
                raise
            self._inputs[endpoint.api_location] = other
            request, response = yield from asked(other)
        return output_of(decoded(request, response), output_name, request.url), response.headers.get(ops.MODEL_HEADER)

    @verb
    def names(self, endpoint: Endpoint) -> Steps[Names]:
        """What a service calls its inputs, outputs and columns, as its API document says; nothing, where there is none.

        :param endpoint: endpoint of a training or a scoring service.
        """
        try:
            request, response = yield from self._call(endpoint, ops.SWAGGER)
            return Names.of(decoded(request, response))
        except (RequestRejected, NotFound):
            return Names()

    # -- blobs -----------------------------------------------------------------------------------------------------

    @verb
    def fetch_blob(self, reference: BlobReference) -> Steps[bytes]:
        """Content of a blob by its location.

        :param reference: base location, relative location and SAS token.
        """
        response = yield from ask(self._blob(ops.FETCH_BLOB, reference), content=True)
        return response.body

    @verb
    def store_blob(self, reference: BlobReference, content: bytes) -> Steps[None]:
        """Write a block blob.

        :param reference: location with a token that allows writing.
        :param content: the whole content.
        """
        headers = {**ops.BLOCK_BLOB, "content-type": "application/octet-stream"}
        yield from ask(self._blob(ops.STORE_BLOB, reference, headers, content))

    @verb
    def blob_facts(self, reference: BlobReference) -> Steps[BlobFacts]:
        """Length and SHA-256 of a blob; it is downloaded only where its metadata do not tell.

        :param reference: base location, relative location and SAS token.
        """
        head = yield self._blob(ops.PROBE_BLOB, reference)
        length, sha256 = head.headers.get("content-length", ""), head.headers.get(ops.BLOB_SHA256, "")
        if head.status < 300 and length.isdigit() and is_sha256(sha256):
            return BlobFacts(int(length), sha256)
        content = yield from Verbs.fetch_blob.steps(self, reference)
        return BlobFacts(len(content), hashlib.sha256(content).hexdigest())

    # -- the common part -------------------------------------------------------------------------------------------

    def _management(
        self,
        operation: ops.Operation,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        key: str = "",
        **segments: str,
    ) -> Request:
        url = operation.url(self.management_url, {"workspace": self.workspace_id, **segments})
        return self._request(operation, url, key or self._token, body, headers)

    def _manage(self, operation: ops.Operation, **segments: str) -> Steps[Any]:
        request = self._management(operation, b"", {}, "", **segments)
        response = yield from ask(request)
        return decoded(request, response)

    def _call(
        self,
        endpoint: Endpoint,
        operation: ops.Operation,
        body: bytes = b"",
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        **segments: str,
    ) -> Generator[Request, Response, tuple[Request, Response]]:
        """A job or scoring call; if the key is refused and has been regenerated since, again with the new one."""
        if not endpoint.api_location:
            raise ProtocolError(f"Endpoint {endpoint.name!r} has no ApiLocation.", verb=operation.name)
        url = ops.below_api(operation, endpoint.api_location, segments, query)
        identity = endpoint.api_location, endpoint.primary_key
        key = self._renewed.get(identity, endpoint.primary_key)
        request = self._request(operation, url, key, body, headers)
        response = yield request
        if response.status == 401 and endpoint.web_service_id and self._token:
            fresh = yield from Verbs.get_endpoint.steps(self, endpoint.web_service_id, endpoint.name)
            if fresh.primary_key != key:
                self._renewed[identity] = fresh.primary_key
                request = self._request(operation, url, fresh.primary_key, body, headers)
                response = yield request
        check(request, response)
        return request, response

    def _request(
        self, operation: ops.Operation, url: str, key: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Request:
        self._mask((key,))
        typed = {"content-type": "application/json; charset=utf-8"} if body else {}
        timeout = SCORE_TIMEOUT if operation in (ops.SCORE, ops.SCORE_MODEL, ops.READ_ROWS) else self.timeout
        return Request(
            operation,
            url,
            {"authorization": f"Bearer {key}", "accept": "application/json", **typed, **(headers or {})},
            body,
            timeout,
        )

    def _blob(
        self,
        operation: ops.Operation,
        reference: BlobReference,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
    ) -> Request:
        self._mask(reference.secrets)
        return Request(operation, reference.url, headers or {}, content, self.timeout)

    def _masked(self, endpoint: Endpoint) -> Endpoint:
        self._mask(endpoint.secrets)
        return endpoint

    def _mask(self, secrets: Sequence[str]) -> None:
        for secret in filter(None, secrets):
            if secret not in self._secrets_told:
                self._secrets_told.add(secret)
                self._on_secret(secret)

    @verb
    def score_model(self, endpoint: Endpoint, asked: ModelCall) -> Steps[ModelAnswers]:
        """Score rows with a model that need not be on any endpoint: our addition; nothing is put in place.

        :param endpoint: on which the model could be put in place.
        :param asked: the model, and the rows.
        :return: its answers, and its digests.
        :raises RequestRejected: ``OperationNotSupported``: the service does not have this call.
        """
        names = {"service": endpoint.web_service_id, "endpoint": endpoint.name}
        key = self._token or endpoint.primary_key
        request = self._management(ops.SCORE_MODEL, encoded(asked.to_wire()), None, key, **names)
        response = yield from ask_addition(request, "scores rows with a model", "Put it on an endpoint, and ask that.")
        return ModelAnswers.from_wire(decoded(request, response))

    list_web_services = verb(list_web_services)
    list_endpoints = verb(list_endpoints)
    list_models = verb(list_models)
    sign_blob = verb(sign_blob)
    regenerate_key = verb(regenerate_key)
    list_keys = verb(list_keys)
    make_key = verb(make_key)
    revoke_key = verb(revoke_key)
    get_quota = verb(get_quota)
    set_quota = verb(set_quota)
    list_audit = verb(list_audit)

    @verb
    def list_jobs(self, endpoint: Endpoint, *, limit: int = PAGE, before: str | None = None) -> Steps[JobPage]:
        """Jobs of an endpoint, newest first, without their results: our addition to the protocol.

        :param endpoint: the endpoint that they were submitted to.
        :param limit: the most that are wanted, up to 500.
        :param before: ``next`` of the page before this one.
        :raises RequestRejected: ``OperationNotSupported``: the service does not have this call.
        """
        pages = self._read_addition(endpoint, ops.LIST_JOBS, page_query(limit, before))
        return JobPage.from_wire((yield from pages))

    @verb
    def job_log(self, endpoint: Endpoint, job_id: str) -> Steps[tuple[LogLine, ...]]:
        """What happened to a job, oldest line first: our addition to the protocol.

        :param endpoint: the endpoint it was submitted to.
        :param job_id: the job.
        :raises RequestRejected: ``OperationNotSupported``: the service does not have this call.
        """
        return read_log((yield from self._read_addition(endpoint, ops.GET_JOB_LOG, job=job_id)))

    @verb
    def read_rows(self, endpoint: Endpoint, content: bytes, name: str) -> Steps[Table]:
        """The rows of a file as :meth:`score` takes them, read by the service: our addition to the protocol.

        :param endpoint: of a scoring service: columns are of the kinds that its model knows.
        :param content: the file.
        :param name: what it is called; the extension tells the format.
        :raises RequestRejected: ``OperationNotSupported``: the service does not have this call.
        """
        call = self._read_addition(endpoint, ops.READ_ROWS, [(ops.FILE_PARAMETER, name)], content)
        return Table.from_wire((yield from call))

    def _read_addition(
        self,
        endpoint: Endpoint,
        call: ops.Operation,
        query: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        **names: str,
    ) -> Steps[Any]:
        try:
            request, response = yield from self._call(endpoint, call, body, query=query, headers=None, **names)
        except AzureMLClassicError as error:
            raise offered(
                error, f"does this ({call.name})", "Jobs are listed, and files read, where they are."
            ) from None
        return decoded(request, response)

    @verb
    def get_drift(
        self, service_id: str, terms: Terms | None = None, *, verdict: str | None = None
    ) -> Steps[list[EndpointDrift]]:
        """How far what is asked is from what was trained, of all endpoints of a scoring web service, by name. Our
        addition to the protocol.

        :param service_id: 32 hex digits.
        :param terms: what counts as a drift.
        :param verdict: of these endpoints only, see :data:`~.protocol.drift.VERDICTS`.
        :raises RequestRejected: ``OperationNotSupported``: the service does not have this call.
        """
        request = self._management(ops.GET_DRIFT, service=service_id)
        return (yield from drift_pages(request, terms, verdict))

    @verb
    def store_stream(self, reference: BlobReference, pieces: Iterable[bytes]) -> Steps[BlobFacts]:
        """Write a blob of any size in blocks: at most a few blocks are in memory, and nothing is seen of the blob, nor
        is an older one replaced, until all of it is there. An asynchronous client waits for ``pieces`` on the event
        loop.

        :param reference: location with a token that allows creating or writing.
        :param pieces: the content in pieces of any size; an error that they raise leaves the blob as it was.
        :return: length and SHA-256 of what was written.
        """
        self._mask(reference.secrets)
        return (yield from upload_in_blocks(reference, pieces, self.timeout))
