"""``azureml-classic jobs`` and ``upload``: submit, wait, see, cancel, fetch results."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.cli.endpoints import found
from airflow_provider_azureml_classic.cli.session import DONE, JOB_ENDED_BADLY, Session, listed_until, pairs
from airflow_provider_azureml_classic.cli.views import JOB_COLUMNS, job_view
from airflow_provider_azureml_classic.client.answers import BlobFacts
from airflow_provider_azureml_classic.exceptions import WaitTimeout
from airflow_provider_azureml_classic.protocol.jobs import INPUT, Job, JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.references import (
    ARFF_EXTENSION,
    INPUT_EXTENSIONS,
    MODEL_EXTENSION,
    PARQUET_EXTENSION,
    BlobReference,
)
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.data import Meter, ParquetMeter, file_pieces, meter_of
from airflow_provider_azureml_classic.tables.reading import title_of

#: Seconds between two looks at a job: the first one, and the most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
#: Seconds between two looks at a log.
_FOLLOW_PAUSE = 1.0
#: What a file may be called in the storage account: data as they are read, or a model.
_SENT = (*INPUT_EXTENSIONS, MODEL_EXTENSION)
#: Those whose content is never that of another one.
_READ_AS_NAMED = (ARFF_EXTENSION, PARQUET_EXTENSION, MODEL_EXTENSION)


def upload(session: Session) -> int:
    """Put a file into the storage account."""
    file, destination = session.arguments.file, session.arguments.destination
    _check_extensions(file, BlobReference.parse(destination))
    place = session.access.signed(destination, "cw", session.client)
    facts, rows = send(session, file, place)
    session.out.record({"location": place.location, "rows": rows, "bytes": facts.length, "sha256": facts.sha256})
    return DONE


def _check_extensions(file: Path, destination: BlobReference) -> None:
    """Refuse a destination that is read as something else than the file is."""
    wanted = (file.suffix.lower(),) if file.suffix.lower() in _READ_AS_NAMED else _SENT
    if destination.extension not in wanted:
        raise ValueError(
            f"{file} cannot go to {destination.location!r}: the destination must end in {', '.join(wanted)}, since the "
            "extension tells how it is read."
        )


def send(session: Session, path: Path, place: BlobReference) -> tuple[BlobFacts, int | None]:
    """Send a file in pieces, with a bar that shows how far it is; returns what arrived, and the rows of a file of data.

    What the service could not read as training data or rows to score is refused, and nothing is stored.

    :param session: of the command line.
    :param path: the file.
    :param place: where to, with a token to write it.
    :raises ValueError: the file cannot be read, or has no rows of data.
    :raises RequestRejected: likewise; the message names the row.
    """
    meter = None if place.extension == MODEL_EXTENSION else meter_of(str(path), title_of(place.extension))
    try:
        with path.open("rb") as file, session.out.progress() as progress:
            if isinstance(meter, ParquetMeter):
                meter.check(file)
            bar = progress.add_task(f"Uploading {path.name}", total=path.stat().st_size)
            pieces = _counted(file_pieces(file), lambda n: progress.advance(bar, n))
            facts = session.client.store_stream(place, _checked(meter, pieces) if meter else pieces)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    return facts, meter.rows if meter else None


def _counted(pieces: Iterable[bytes], seen: Callable[[int], None]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        seen(len(piece))


def _checked(meter: Meter, pieces: Iterable[bytes]) -> Iterator[bytes]:
    yield from meter.watch(pieces)
    if meter.rows == 0:
        raise ValueError(f"{meter.name} has {meter.heading} but no data rows; nothing was uploaded.")


def submit(session: Session) -> int:
    """Submit and start a job; with ``--wait``, stay until it has ended."""
    said, endpoint = session.arguments, found(session)
    inputs = pairs(said.input, "--input", "")
    if any(not name for name, _ in inputs):
        usual = session.client.names(endpoint).input or INPUT
        inputs = [(name or usual, text) for name, text in inputs]
    request = JobRequest(
        inputs={name: session.access.place(text) for name, text in inputs},
        outputs={name: session.access.place(text) for name, text in pairs(said.out, "--out", None)},
        global_parameters=dict(pairs(said.parameter, "--parameter", None)),
    )
    job_id = session.client.submit_job(endpoint, request)
    session.client.start_job(endpoint, job_id)
    if said.wait:
        session.out.say(f"Job {job_id} is started.")
        return _shown(session, waited(session, endpoint, job_id))
    session.out.record({"id": job_id, "web_service": said.service, "endpoint": endpoint.name})
    return DONE


def list_jobs(session: Session) -> int:
    """The newest jobs of an endpoint."""
    endpoint = found(session)

    def ask(limit: int, before: str | None) -> tuple[tuple[Job, ...], str | None]:
        page = session.client.list_jobs(endpoint, limit=limit, before=before)
        return page.jobs, page.next

    jobs = listed_until(ask, session.arguments.limit)
    session.out.rows([job_view(job) for job in jobs], JOB_COLUMNS)
    return DONE


def logs(session: Session) -> int:
    """The log of a job; with ``--follow``, until it has ended."""
    endpoint, job_id, seen = found(session), session.arguments.job, 0
    while True:
        # The state first: what is logged after a look at the log is then shown by the next one.
        ended = not session.arguments.follow or session.client.get_job(endpoint, job_id).status.terminal
        lines = session.client.job_log(endpoint, job_id)
        session.out.lines(
            [f"{line.time:%Y-%m-%d %H:%M:%S}  {line.text}" if line.time else line.text for line in lines[seen:]]
        )
        seen = len(lines)
        if ended:
            return DONE
        time.sleep(_FOLLOW_PAUSE)


def show(session: Session) -> int:
    """State of a job."""
    session.out.record(job_view(session.client.get_job(found(session), session.arguments.job)))
    return DONE


def wait(session: Session) -> int:
    """Stay until a job has ended; the exit status tells how."""
    return _shown(session, waited(session, found(session), session.arguments.job))


def _shown(session: Session, job: Job) -> int:
    session.out.record(job_view(job))
    return DONE if job.status is JobStatus.FINISHED else JOB_ENDED_BADLY


def waited(session: Session, endpoint: Endpoint, job_id: str) -> Job:
    """The job when it has ended; a bar shows how far it is.

    :param session: with ``wait_timeout``.
    :param endpoint: the endpoint it was submitted to.
    :param job_id: of the job.
    :raises WaitTimeout: it goes on.
    """
    allowed = session.arguments.wait_timeout
    deadline, pause = time.monotonic() + allowed, _FIRST_PAUSE
    with session.out.progress() as progress:
        bar = progress.add_task(f"Job {job_id}", total=None)
        while True:
            job = session.client.get_job(endpoint, job_id)
            progress.update(bar, description=f"Job {job_id}: {job.status.value}")
            if job.status.terminal:
                return job
            if time.monotonic() >= deadline:
                raise WaitTimeout(
                    f"Job {job_id} is still {job.status.value} after {allowed:g} s; it goes on. "
                    "Use `jobs wait` to wait again, or `jobs cancel`."
                )
            time.sleep(min(pause * random.uniform(0.9, 1.1), max(0.0, deadline - time.monotonic())))  # noqa: S311
            pause = min(pause * 1.5, _LONGEST_PAUSE)


def cancel(session: Session) -> int:
    """Cancel a job in whatever state it is."""
    endpoint = found(session)
    session.client.cancel_job(endpoint, session.arguments.job)
    session.out.record(job_view(session.client.get_job(endpoint, session.arguments.job)))
    return DONE


def download(session: Session) -> int:
    """Write one output of a finished job into a file."""
    arguments = session.arguments
    job = session.client.get_job(found(session), arguments.job)
    job.raise_unless_finished()
    name, place = job.output(arguments.output_name)
    session.out.record({"output": name, **_written(session, place)})
    return DONE


def download_model(session: Session) -> int:
    """Write the model that is live on an endpoint into a file."""
    resource = found(session).resource(session.arguments.resource)
    if resource.location is None:
        raise ValueError(f"The service does not tell where the model of {resource.name!r} is.")
    session.out.record({"model": resource.location.location, **_written(session, resource.location)})
    return DONE


def _written(session: Session, place: BlobReference) -> dict[str, Any]:
    """Write a blob into the file that the arguments name."""
    file: Path = session.arguments.file
    if file.exists() and not session.arguments.overwrite:
        raise ValueError(f"{file} is there already; say --overwrite to replace it.")
    content = session.client.fetch_blob(readable(session, place))
    file.write_bytes(content)
    return {"file": str(file), "bytes": len(content)}


def readable(session: Session, place: BlobReference) -> BlobReference:
    """A place with a token to read it.

    :param session: of the command line.
    :param place: of a job's output.
    :raises ValueError: nothing opens it.
    """
    return place if place.sas_token else session.access.signed(place.location, "r", session.client)
