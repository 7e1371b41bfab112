"""What a job may be given: inputs, outputs and parameters, checked when it is submitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.references import (
    CSV_EXTENSION,
    DATA_EXTENSIONS,
    INPUT_EXTENSIONS,
    MODEL_EXTENSION,
    BlobReference,
)
from airflow_provider_azureml_classic.server.blobs.names import output_folder
from airflow_provider_azureml_classic.server.experiments import parameters
from airflow_provider_azureml_classic.server.experiments.declaration import MODEL, TRAIN
from airflow_provider_azureml_classic.server.state.tables import JobRow, ServiceRow
from airflow_provider_azureml_classic.server.storage.locations import READ, WRITE, Locations
from airflow_provider_azureml_classic.server.storage.scope import Scope
from airflow_provider_azureml_classic.server.workspace.catalogue import Catalogue


class Arguments:
    """Checks what jobs are given.

    :param catalogue: what each experiment takes.
    :param locations: places of inputs and outputs.
    """

    def __init__(self, catalogue: Catalogue, locations: Locations) -> None:
        self._catalogue = catalogue
        self._locations = locations

    def checked(self, scope: Scope, service: ServiceRow, request: JobRequest) -> JobRequest:
        """What a job is to do, complete: every input has its place, every parameter a value.

        An address given as a parameter is kept as the input that it stands for, so that it is checked as one.

        :param scope: what of the service's store the endpoint called reaches.
        :param service: the web service.
        :param request: as sent.
        :raises RequestRejected: naming the input, output or parameter at fault.
        """
        declared = self._catalogue.parameters(service.experiment, training=service.training)
        values = parameters.checked(declared, request.global_parameters)
        names = self._catalogue.inputs(service.experiment, training=service.training)
        inputs = self._inputs(names, request.inputs, declared, values)
        inputs = {name: self._locations.checked(scope, reference, READ) for name, reference in inputs.items()}
        outputs = self._outputs(service, request.outputs)
        outputs = {name: self._locations.checked(scope, reference, WRITE) for name, reference in outputs.items()}
        arguments = {name: value for name, value in values.items() if declared[name].sets != parameters.DATA}
        return JobRequest(inputs, outputs, arguments, request.purpose)

    def _inputs(
        self,
        names: Mapping[str, str],
        references: Mapping[str, BlobReference],
        declared: Mapping[str, parameters.Parameter],
        values: Mapping[str, Any],
    ) -> dict[str, BlobReference]:
        first = next(name for name, role in names.items() if role == TRAIN)
        # The form with a single input does not name it.
        inputs = {name or first: reference for name, reference in references.items()}
        for name in inputs:
            if name not in names:
                choices = ", ".join(names)
                raise rejection(
                    "InvalidInputNames", f"There is no input {name!r}; the inputs are: {choices}.", target=name
                )
        address = next((name for name, parameter in declared.items() if parameter.sets == parameters.DATA), "")
        instead = address in values and first not in inputs
        if instead:
            inputs[first] = BlobReference.parse(values[address])
        elif address in values and values[address] != declared[address].default:
            raise rejection(
                "BatchJobInputsTooManySpecified",
                f"The input {first} and the parameter {address} both say where the data is; give one of them.",
                target=address,
            )
        missing = [name for name in names if name not in inputs]
        if missing:
            raise rejection("BatchJobInputsNotSpecified", _missing_inputs(missing, first, address), target=missing[0])
        for name in names:
            # The name of a file behind an address may be any, as in Studio's Import Data.
            if name != first or not instead:
                _check_extension(name, inputs[name], INPUT_EXTENSIONS)
        return {name: inputs[name] for name in names}

    def _outputs(self, service: ServiceRow, references: Mapping[str, BlobReference]) -> dict[str, BlobReference]:
        roles = self._catalogue.outputs(service.experiment, training=service.training)
        extensions = {name: (MODEL_EXTENSION,) if role == MODEL else DATA_EXTENSIONS for name, role in roles.items()}
        outputs = {}
        for name, reference in references.items():
            if name not in extensions:
                raise rejection(
                    "InvalidOutputOverrideName",
                    f"There is no output {name!r}; the outputs are (case-sensitive): {', '.join(extensions)}.",
                    target=name,
                )
            _check_extension(name, reference, extensions[name])
            outputs[name] = reference
        return outputs


def _missing_inputs(missing: list[str], first: str, address: str) -> str:
    instead = f", or the parameter {address} instead of {first}" if address and first in missing else ""
    return f"The job needs the input {' and '.join(missing)}{instead}."


def input_extension(reference: BlobReference) -> str:
    """The extension that says how an input is read; a name without one of data is read as CSV.

    :param reference: the input's place.
    """
    return reference.extension if reference.extension in INPUT_EXTENSIONS else CSV_EXTENSION


def output_reference(scope: Scope, job: JobRow, name: str, extension: str = CSV_EXTENSION) -> BlobReference:
    """Where an output goes: its override, or a generated path in the own store.

    :param scope: what of the service's store the job's endpoint reaches.
    :param job: the job.
    :param name: the output.
    :param extension: of a generated path.
    """
    override = job.request.outputs.get(name)
    if override:
        return override
    return BlobReference(f"{output_folder(job.id, scope.folder)}/{job.id}-{name}{extension}")


def _check_extension(name: str, reference: BlobReference, allowed: tuple[str, ...]) -> None:
    if reference.extension not in allowed:
        raise rejection(
            "InvalidBlobExtension",
            f"{name} is {reference.relative_location!r}; its name must end in {' or '.join(allowed)}.",
            target=name,
        )
