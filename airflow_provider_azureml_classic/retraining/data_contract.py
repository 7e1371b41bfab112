"""What a service says of a job's data beside those of the live model, for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_azureml_classic.protocol.data_check import NOT_KNOWN, NOTE, SATISFIED, VIOLATED

#: Why figures are not believed, however good they are.
UNLIKE = (
    "The training file is not as those before (see its data check), and rows that it brought itself do not tell "
    "whether it is wrong."
)

#: Why a file is rather believed to be wrong than the world to have changed.
MOVED = (
    "Columns of the training file are spread in another way than before as well (see its data check), and the new "
    "model has forgotten much of what the live one knows of its rows."
)


def sentences(found: Mapping[str, Any]) -> str:
    """The first findings that are more than notes.

    :param found: what a service says of data.
    """
    worse = [one["message"] for one in found["findings"] if one["level"] != NOTE]
    return " ".join([*worse[:3], *([f"And {len(worse) - 3} more."] if len(worse) > 3 else [])])


def tell(found: Mapping[str, Any] | None, info: Callable[[str], object], warn: Callable[[str], object]) -> None:
    """Say what the data of a job were found to be; a violation where nobody overlooks it.

    :param found: what the service says; ``None``: nothing.
    :param info: takes lines for the log.
    :param warn: takes lines for the log that somebody should see.
    """
    if found is None:
        return
    if found["verdict"] == NOT_KNOWN:
        info("Data check: there is no live model that tells what the data of this endpoint look like.")
    else:
        (warn if found["verdict"] == VIOLATED else info)(f"Data check against the live model: {found['verdict']}.")
    for one in found["findings"]:
        (info if one["level"] == NOTE else warn)(f"{one['level']}: {one['message']}")


def as_expected(found: Mapping[str, Any] | None) -> bool | None:
    """Whether the data satisfy the contract, with labels shared out as before; ``None``: not known.

    :param found: what the service says; ``None``: nothing.
    """
    if found is None or found["verdict"] == NOT_KNOWN:
        return None
    return found["verdict"] == SATISFIED and bool(found["labels_as_before"])


def columns_as_before(found: Mapping[str, Any] | None) -> bool | None:
    """Whether the numbers and texts of all columns are spread as before; ``None``: not known.

    :param found: what the service says; ``None``: nothing, as servers of earlier versions do.
    """
    return None if found is None else found.get("columns_as_before")
