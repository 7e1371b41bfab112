"""Batch execution (BES): the request, the states and the answer (wire document, section 4)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import Any

from airflow_provider_azureml_classic.exceptions import JobCancelled, JobFailed, ProtocolError, rejection
from airflow_provider_azureml_classic.protocol.digests import DIGESTS, Digests
from airflow_provider_azureml_classic.protocol.errors import json_object, known_members, reading_answer
from airflow_provider_azureml_classic.protocol.messages import read_json
from airflow_provider_azureml_classic.protocol.moments import read_time, stamp
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.references import WINDOW, BlobReference, ToldWindow

#: What every web service reads.
INPUT = "input1"
#: What a training service writes: the trained model and its evaluation (wire document, section 4.2).
MODEL_OUTPUT, EVALUATION_OUTPUT = "output1", "output2"
#: What a scoring service writes, and answers to a scoring call.
SCORED_OUTPUT = "output1"
#: Member of a job's state that names the file of its samples, and the members of that file (see :mod:`.samples` of
#: the experiments), which earlier versions wrote as columns of the evaluation.
SAMPLES = "Samples"
#: Member of a job's state that says what its data were found to be, see :mod:`.contract` of the experiments.
DATA_CHECK = "DataCheck"
GOLDEN_ROWS, CHECK_ROWS = "Golden Rows", "Check Rows"
#: Number of the evaluation: how many rows its other numbers are about. The measured model was fitted without them; at 0
#: it was fitted on them. An addition of ours: where it is absent, that is not known.
HELD_OUT = "Rows Held Out"


class JobStatus(str, Enum):
    """State of a job; the integer codes of early documents are the positions in this order."""

    NOT_STARTED = "NotStarted"
    RUNNING = "Running"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    FINISHED = "Finished"

    @property
    def terminal(self) -> bool:
        """Whether the state is final."""
        return not TRANSITIONS[self]

    @classmethod
    def from_wire(cls, value: Any) -> JobStatus:
        """The state in any spelling: name in any case, one or two l in ``Cancelled``, number, digits.

        :param value: decoded JSON.
        :raises ProtocolError: anything else; the message shows the raw value.
        """
        status = _SPELLINGS.get(str(value).replace(" ", "").lower())
        if status is None:
            raise ProtocolError(f"The job's status {value!r} is not a known status.")
        return status


#: States by their spellings, in lower case.
_SPELLINGS: Mapping[str, JobStatus] = MappingProxyType(
    {state.value.lower(): state for state in JobStatus}
    | {"canceled": JobStatus.CANCELLED}
    | {str(number): state for number, state in enumerate(JobStatus)}
)


#: Allowed moves between states; a state without any is terminal.
TRANSITIONS: Mapping[JobStatus, frozenset[JobStatus]] = MappingProxyType(
    {
        JobStatus.NOT_STARTED: frozenset({JobStatus.RUNNING, JobStatus.CANCELLED, JobStatus.FAILED}),
        # Back to NotStarted: a server that died runs the job again.
        JobStatus.RUNNING: frozenset(
            {JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.NOT_STARTED}
        ),
        JobStatus.FAILED: frozenset(),
        JobStatus.CANCELLED: frozenset(),
        JobStatus.FINISHED: frozenset(),
    }
)

# 32 hex digits on the cloud service; other servers may use dashes. No text of an error or a page is one.
_JOB_ID = re.compile(r"[\w.-]+")
_REQUEST = frozenset({"Input", "Inputs", "Outputs", "GlobalParameters", "AzureBatchPoolId"})


@dataclass(frozen=True)
class JobRequest:
    """What a job reads and writes.

    :param inputs: reference by input name; the single-input form is read as the input named ``""``.
    :param outputs: overrides by output name; outputs without one go to the service's own store.
    :param global_parameters: web service parameters by name, values as sent.
    :param purpose: what the job is for, if its client says so; it is no part of the body.
    """

    inputs: Mapping[str, BlobReference] = field(default_factory=dict)
    outputs: Mapping[str, BlobReference] = field(default_factory=dict)
    global_parameters: Mapping[str, Any] = field(default_factory=dict)
    purpose: Purpose | None = None

    @classmethod
    def from_wire(cls, data: Any) -> JobRequest:
        """The body of a submission, with the single or the multiple input form; absent, null and ``{}`` are alike.

        :param data: decoded JSON.
        :raises RequestRejected: naming the member at fault.
        """
        if not isinstance(data, Mapping):
            raise rejection("RequestBodyInvalid", "The body must be a JSON object.")
        data = known_members("The job", data, _REQUEST)
        if data.get("Input") and data.get("Inputs"):
            raise rejection("DuplicateInputInBatchCall", "The job has both Input and Inputs; give one of them.")
        single = {"": BlobReference.from_wire(data["Input"], what="Input", strict=True)} if data.get("Input") else {}
        return cls(
            inputs=single or _inputs(data.get("Inputs") or {}),
            outputs=_outputs(data.get("Outputs") or {}),
            global_parameters=json_object("GlobalParameters", data.get("GlobalParameters") or {}),
        )

    def to_wire(self) -> dict[str, Any]:
        """The multiple-input form."""
        return {
            "Inputs": {name: blob.to_wire() for name, blob in self.inputs.items()},
            "Outputs": {name: blob.to_wire() for name, blob in self.outputs.items()},
            "GlobalParameters": dict(self.global_parameters),
        }


def _inputs(data: Any) -> dict[str, BlobReference]:
    inputs = json_object("Inputs", data)
    if "" in inputs:
        raise rejection("InvalidInputNames", "Inputs has an input without a name.", target="Inputs")
    return {name: _reference("Inputs", name, value) for name, value in inputs.items()}


def _outputs(data: Any) -> dict[str, BlobReference]:
    outputs = json_object("Outputs", data)
    for name, value in outputs.items():
        if not value:
            raise rejection(
                "MissingOutputOverrideSpecification",
                f"Outputs[{name!r}] has no RelativeLocation; give it one, or leave {name!r} out.",
                target=name,
            )
    return {name: _reference("Outputs", name, value) for name, value in outputs.items()}


def _reference(member: str, name: str, data: Any) -> BlobReference:
    return BlobReference.from_wire(data, what=f"{member}[{name!r}]", strict=True)


@dataclass(frozen=True)
class Job:
    """A batch job as GET shows it.

    :param id: 32 hex digits.
    :param status: its state.
    :param results: reference by output name with a fresh SAS token; empty until it is finished.
    :param details: the reason when it failed.
    :param created_at: when it was submitted, if the server says so; likewise start and end.
    :param progress: the last line of its log, if the server says so.
    :param samples: where rows are that a training kept, with answers, if the server says so: an addition of ours. It is
        not among the results, because clients take those for what the experiment declares.
    :param model: digests of the model that it trained, if the server tells them.
    :param window: of that model's training data, likewise.
    :param data_check: what its data were found to be beside those of the live model, if the server says so: an addition
        of ours.
    """

    id: str
    status: JobStatus
    results: Mapping[str, BlobReference] = field(default_factory=dict)
    details: str | None = None
    created_at: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    progress: str | None = None
    samples: BlobReference | None = None
    model: Digests | None = None
    window: ToldWindow | None = None
    data_check: Mapping[str, Any] | None = None

    @classmethod
    @reading_answer("The job's state")
    def from_wire(cls, job_id: str, data: Any) -> Job:
        """The answer of a status call, version 1 members (``Result``, ``Status Code``) included.

        :param job_id: the job asked for; the answer does not repeat it.
        :param data: decoded JSON.
        :raises ProtocolError: no status, or one that is not known, or results that are not references.
        """
        if not isinstance(data, Mapping):
            raise ProtocolError(f"The state of job {job_id} is not an object.")
        raw = next((data[name] for name in ("StatusCode", "Status Code") if data.get(name) is not None), None)
        results = json_object("Results", data.get("Results") or data.get("Result") or {})
        return cls(
            id=job_id,
            status=JobStatus.from_wire(raw),
            results={name: BlobReference.from_wire(value) for name, value in results.items()},
            details=data.get("Details"),
            created_at=read_time(data.get("CreatedAt")),
            start_time=read_time(data.get("StartTime")),
            end_time=read_time(data.get("EndTime")),
            progress=data.get("Progress"),
            samples=BlobReference.from_wire(data[SAMPLES]) if data.get(SAMPLES) else None,
            model=Digests.from_wire(data.get(DIGESTS)),
            window=ToldWindow.from_wire(data.get(WINDOW)),
            data_check=json_object(DATA_CHECK, data[DATA_CHECK]) if data.get(DATA_CHECK) else None,
        )

    def to_wire(self) -> dict[str, Any]:
        """State by name, ``Results`` null until finished; times, progress, samples and digests as our addition."""
        return {
            "StatusCode": self.status.value,
            "Results": {name: blob.to_wire() for name, blob in self.results.items()} or None,
            "Details": self.details,
            "CreatedAt": stamp(self.created_at),
            "StartTime": stamp(self.start_time),
            "EndTime": stamp(self.end_time),
            "Progress": self.progress,
            **({SAMPLES: self.samples.to_wire()} if self.samples else {}),
            **({DIGESTS: self.model.to_wire()} if self.model else {}),
            **({WINDOW: self.window.to_wire()} if self.window else {}),
            **({DATA_CHECK: dict(self.data_check)} if self.data_check else {}),
        }

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown."""
        blobs = (*self.results.values(), *filter(None, (self.samples,)))
        return tuple(secret for blob in blobs for secret in blob.secrets)

    def raise_unless_finished(self) -> None:
        """Raise the error that a terminal state other than ``Finished`` is.

        :raises JobFailed: with the service's ``Details``.
        :raises JobCancelled: somebody stopped it.
        """
        if self.status is JobStatus.FAILED:
            raise JobFailed(f"Batch job {self.id} failed: {self.details or 'the service gave no details.'}")
        if self.status is JobStatus.CANCELLED:
            raise JobCancelled(f"Batch job {self.id} was cancelled.", hint="Clear the task to submit a new job.")

    def output(self, name: str | None = None, *, extension: str | None = None) -> tuple[str, BlobReference]:
        """Name and place of one output.

        :param name: the output's name; ``None`` means "the only one", or the only one with ``extension``.
        :param extension: for example ``.ilearner``.
        :raises RequestRejected: none or several fit; the message lists the outputs.
        """
        fitting = {
            key: blob
            for key, blob in self.results.items()
            if (key == name if name is not None else extension is None or blob.extension == extension)
        }
        if len(fitting) != 1:
            outputs = ", ".join(f"{key} ({blob.location})" for key, blob in self.results.items()) or "none"
            which = f"named {name!r}" if name is not None else f"ending in {extension}" if extension else "to choose"
            raise rejection(
                "InvalidOutputOverrideName", f"Job {self.id} has no single output {which}; it has: {outputs}."
            )
        return next(iter(fitting.items()))


def read_job_id(body: bytes) -> str:
    """The job id in the answer of a submission: a JSON string, bare text, or an object with an ``id``.

    :param body: the whole body.
    :raises ProtocolError: none of these.
    """
    text = body.decode("utf-8-sig", "replace").strip()
    try:
        data = read_json(text)
    except ValueError:
        data = text
    if isinstance(data, int | float) and not isinstance(data, bool):
        data = text  # an unquoted id of digits only
    if isinstance(data, Mapping):
        data = data.get("id") or data.get("Id") or data.get("JobId")
    if isinstance(data, str) and _JOB_ID.fullmatch(data.strip()):
        return data.strip()
    raise ProtocolError("The answer to the submission holds no job id.")
