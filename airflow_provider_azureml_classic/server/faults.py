"""A server that misbehaves on demand, for tests of those who use it.

The server itself has no switch for this: this module is a program of its own, with the same arguments after the file
that says what is to go wrong: ``python -m airflow_provider_azureml_classic.server.faults PLAN.json --data-dir DIR``.

The file is read at every call, so that a test can change it while the server runs. It is a JSON object: name of an
endpoint, whatever its web service, to what is wrong with it, for example ``{"bikes": {"fault": "stale"}}``:

==========  ============================================================================================
``ignore``  a PATCH is answered 200 and changes nothing
``pretend`` a PATCH is answered 200, the endpoint names the new model, and the old one goes on answering
``revert``  after a PATCH and ``after`` reads of the endpoint the old model is back, named and answering
``stale``   after a PATCH every second scoring call is answered by the old model
``lose``    a job that was submitted is not found afterwards
``hang``    a job that was started stays ``Running``
``delay``   the operation ``verb`` is answered ``seconds`` late
``cut``     the operation ``verb`` is carried out, and the connection cut in the middle of the answer
==========  ============================================================================================
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.protocol.messages import Response
from airflow_provider_azureml_classic.protocol.values import EndpointSettings
from airflow_provider_azureml_classic.server import __main__ as server
from airflow_provider_azureml_classic.server.state.tables import EndpointRow
from airflow_provider_azureml_classic.server.web.app import App
from airflow_provider_azureml_classic.server.web.call import Call

FAULTS = ("ignore", "pretend", "revert", "stale", "lose", "hang", "delay", "cut")


@dataclass
class Memory:
    """What an endpoint was before it was last patched.

    :param before: the endpoint with its old model.
    :param reads: how often it was read since.
    :param scored: how often it was asked since.
    """

    before: EndpointRow
    reads: int = 0
    scored: int = 0


class FaultyApp(App):
    """The service, with faults between its parts and its callers.

    :param parts: what :class:`App` is made of.
    :param plan: the file that says what is wrong.
    """

    #: A delay must not hold up everybody else.
    waits = True

    def __init__(self, *parts: Any, plan: Path) -> None:
        super().__init__(*parts)
        self._plan = plan
        self._memories: dict[str, Memory] = {}
        self._hanging: set[str] = set()

    def answer(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Answer a request, late or in part if the plan says so."""
        response = super().answer(method, path, query, headers, body)
        operation, segments, _ = ops.match(method, path)
        fault = self._fault(self._name(segments), "delay", "cut")
        if operation is None or fault.get("verb") != operation.name:
            return response
        if fault["fault"] == "delay":
            time.sleep(float(fault["seconds"]))
            return response
        # More is announced than is sent, so the web server closes the connection.
        return replace(response, headers={**response.headers, "content-length": "1000000"}, body=b"{")

    def _name(self, segments: Mapping[str, str]) -> str:
        """Name of the endpoint that was asked."""
        row = self._workspace.cached(segments.get("endpoint_id", ""))
        return row.name if row else segments.get("endpoint", "")

    def _fault(self, endpoint: str, *kinds: str) -> Mapping[str, Any]:
        """What is wrong with an endpoint, if it is one of these; else nothing."""
        fault: Mapping[str, Any] = json.loads(self._plan.read_text()).get(endpoint, {})
        if fault and fault.get("fault") not in FAULTS:
            raise ValueError(f"{self._plan}: {fault.get('fault')!r} is none of {', '.join(FAULTS)}")
        return fault if fault.get("fault") in kinds else {}

    # -- updates that go wrong -----------------------------------------------------------------------------------------

    def _managed(self, call: Call) -> EndpointRow:
        caller = self._caller(call)
        return self._workspace.endpoint(caller, call.segments["service"], call.segments["endpoint"])[1]

    def _patch_endpoint(self, call: Call) -> Response:
        row = self._managed(call)
        fault = self._fault(row.name, "ignore", "pretend", "revert", "stale")
        if not fault:
            self._memories.pop(row.id, None)
        elif fault["fault"] == "ignore":
            return super()._get_endpoint(call)
        else:
            # What was live before the first of several patches stays "the old model".
            self._memories.setdefault(row.id, Memory(row))
        return super()._patch_endpoint(call)

    def _get_endpoint(self, call: Call) -> Response:
        row = self._managed(call)
        memory, fault = self._memories.get(row.id), self._fault(row.name, "revert")
        if memory and fault:
            memory.reads += 1
            if memory.reads > int(fault["after"]):
                self._workspace.change(row, EndpointSettings(), memory.before.resources)
                del self._memories[row.id]
        return super()._get_endpoint(call)

    def _endpoint(self, call: Call) -> EndpointRow:
        row = super()._endpoint(call)
        memory, fault = self._memories.get(row.id), self._fault(row.name, "pretend", "stale")
        if not memory or not fault or call.operation is not ops.SCORE:
            return row
        memory.scored += 1
        return memory.before if fault["fault"] == "pretend" or memory.scored % 2 == 0 else row

    # -- jobs that go wrong --------------------------------------------------------------------------------------------

    def _start_job(self, call: Call) -> Response:
        if self._fault(self._endpoint(call).name, "hang"):
            self._hanging.add(call.segments["job"])
            return Response(200)
        return super()._start_job(call)

    def _get_job(self, call: Call) -> Response:
        endpoint, job_id = self._endpoint(call), call.segments["job"]
        if self._fault(endpoint.name, "lose"):
            raise rejection("JobNotFound", f"Endpoint {endpoint.name!r} has no job {job_id!r}.", target=job_id)
        job = self._jobs.get(endpoint, job_id)
        if job_id in self._hanging and not job.status.terminal:
            return Response.of_json(replace(job, status=JobStatus.RUNNING).to_wire())
        return super()._get_job(call)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a server that misbehaves; returns its exit status.

    :param argv: the plan's file, then the server's own arguments; those of the process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0].startswith("-"):
        print("usage: python -m airflow_provider_azureml_classic.server.faults PLAN.json --data-dir DIR ...")
        return server.USAGE
    print(f"This server gives WRONG ANSWERS on purpose, as {arguments[0]} says. For tests only.", file=sys.stderr)
    return server.main(arguments[1:], make_app=partial(FaultyApp, plan=Path(arguments[0])))


if __name__ == "__main__":
    sys.exit(main())
