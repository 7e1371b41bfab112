"""Names of containers and blobs: what may become a path on disk. Pure."""

from __future__ import annotations

import os
import re

from airflow_provider_azureml_classic.exceptions import rejection

#: Container of outputs that no override sends elsewhere, as in the cloud service.
OUTPUT_CONTAINER = "experimentoutput"
#: Container of the first models. Their names carry no training window: their age is unknown on purpose, so that any
#: dated retrain is newer.
FIRST_MODELS = "firstmodels"
#: Container of the diagnostics logs.
DIAGNOSTICS_CONTAINER = "ml-diagnostics"
#: Container of what belongs to one customer each, in folders that are called by the customer's id.
CUSTOMERS_CONTAINER = "customers"
#: Container of what other machines work on.
WORK_CONTAINER = "ml-work"
#: What the service writes for one endpoint: no other one reads it by its path alone.
OF_ONE_ENDPOINT = frozenset({OUTPUT_CONTAINER, DIAGNOSTICS_CONTAINER, WORK_CONTAINER})
#: What the service writes: nobody else writes there by a path alone.
OF_THE_SERVICE = OF_ONE_ENDPOINT | {FIRST_MODELS}
#: Azure's limit on the length of a blob's name, in characters.
MAX_NAME_LENGTH = 1024
_MAX_SEGMENT_BYTES = 255
_CUSTOMER = re.compile(rf"{CUSTOMERS_CONTAINER}/[0-9a-f]{{32}}(/.*)?", re.IGNORECASE | re.DOTALL)
_CONTAINER = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
# What a file's name cannot hold: an empty part, and the other separator of Windows. On disk they are characters of the
# private use area, 0xF000 above their own, as Cygwin writes them.
_EMPTY_PART, _BACKSLASH = "\uf02f", "\uf05c"
# Control characters, what XML cannot carry, lone surrogates, what stands for others on disk, and what stands for every
# byte that is not UTF-8: two names would become one.
_NEVER = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\ufffd\ufffe\uffff\uf02f\uf05c]")
# Colons are common in names made from timestamps, and harmful (drives, streams) on Windows only.
_NEVER_ON_WINDOWS = re.compile(r'[<>:"|?*]')
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def samples_path(owner: str, folder: str | None = None) -> str:
    """Where the samples of a model go: they are rows of its data, so no path alone opens them.

    :param owner: of the job, or of the first model of an experiment.
    :param folder: of the customer whose job it is, if customers are kept apart.
    """
    return f"{output_folder(owner, folder)}/{owner}-samples.json"


def output_folder(owner: str, folder: str | None = None) -> str:
    """Where outputs go that no override sends elsewhere.

    :param owner: of the job.
    :param folder: of the customer whose job it is, if customers are kept apart.
    """
    return "/".join(filter(None, (folder, OUTPUT_CONTAINER, owner)))


def customer_folder(customer: str) -> str:
    """The folder of a customer: container and name.

    :param customer: id of the pair of endpoints.
    """
    return f"{CUSTOMERS_CONTAINER}/{customer}"


def is_of_a_customer(path: str) -> bool:
    """Whether a place is in the folder of some customer.

    :param path: container and name of a blob.
    """
    return _CUSTOMER.fullmatch(path) is not None


def check_container(name: str) -> str:
    """``name``, if a container may be called that: 3 to 63 lower-case letters, digits and hyphens.

    :param name: name of a container.
    :raises RequestRejected: ``ContainerSegmentInvalid``.
    """
    if not _CONTAINER.fullmatch(name):
        raise rejection(
            "ContainerSegmentInvalid",
            f"{name!r} cannot be a container's name: it must be 3 to 63 lower-case letters, digits and hyphens.",
        )
    return name


def check_blob(name: str, *, windows: bool = os.name == "nt") -> str:
    """``name``, if it can be kept as a file inside its container, whatever the system does with odd names.

    :param name: path of a blob in its container.
    :param windows: refuse what only Windows gives a meaning to.
    :raises RequestRejected: ``BlobNameTooLong`` or ``InputBlobRelativeLocationInvalid``.
    """
    if len(name) > MAX_NAME_LENGTH:
        raise rejection(
            "BlobNameTooLong", f"The blob's name has {len(name)} characters, {MAX_NAME_LENGTH} are allowed."
        )
    if not name:
        raise rejection("InputBlobRelativeLocationInvalid", "The blob's name is empty.")
    if name != name.rstrip():
        raise rejection("InputBlobRelativeLocationInvalid", f"The blob's name {name!r} ends with a blank.")
    for segment in name.split("/"):
        reason = _fault(segment, windows=windows)
        if reason:
            raise rejection("InputBlobRelativeLocationInvalid", f"The blob's name {name!r} {reason}.")
    return name


def path_on_disk(blob: str) -> str:
    """Where a blob is kept, below its container.

    :param blob: an allowed name.
    """
    return "/".join(part.replace("\\", _BACKSLASH) or _EMPTY_PART for part in blob.split("/"))


def name_of(path: str) -> str:
    """The blob that :func:`path_on_disk` keeps at a path.

    :param path: below its container.
    """
    return path.replace(_EMPTY_PART, "").replace(_BACKSLASH, "\\")


def _fault(segment: str, *, windows: bool) -> str | None:
    if segment and not segment.strip(". "):
        return "has a part of dots or blanks only"
    if _NEVER.search(segment) or (windows and _NEVER_ON_WINDOWS.search(segment)):
        return "has a character that is not allowed"
    if windows and (segment.endswith((".", " ")) or _DEVICE.fullmatch(segment)):
        return "has a part that Windows reserves"
    return (
        f"has a part of over {_MAX_SEGMENT_BYTES} bytes"
        if len(path_on_disk(segment).encode()) > _MAX_SEGMENT_BYTES
        else None
    )


def is_first_model(path: str) -> bool:
    """Whether a place is that of a model that a web service began with.

    :param path: container and name of a blob.
    """
    return path.startswith(f"{FIRST_MODELS}/")
