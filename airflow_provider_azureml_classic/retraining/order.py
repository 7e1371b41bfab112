"""Which of two models is the newer one: an older one does not replace it. Pure: no I/O, no Airflow."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from airflow_provider_azureml_classic.protocol.moments import moment_text
from airflow_provider_azureml_classic.retraining.placing import Candidate, Target

#: What to do if it is not known on which data the live model was trained; ``None``: refuse where the service tells
#: windows, replace elsewhere.
UNKNOWN_WINDOW = (None, "replace", "refuse")


def older_than_live(
    target: Target, candidate: Candidate, unknown_window: str | None, log: Callable[[str], object]
) -> str | None:
    """Why the live model must stay, as it was trained on newer data, or on the same later; ``None`` if it need not.

    Models are ordered by the ends of their training windows: as submissions and paths tell them. Where that of one is
    not known, the last times in their data are compared, if both are known: an end is at least that.

    :param target: what is live.
    :param candidate: the model to put live.
    :param unknown_window: what to do if the live model's window is unknown: see :data:`UNKNOWN_WINDOW`.
    :param log: told if the model is replaced all the same.
    :raises ValueError: the candidate's training window is not known, or the live one's, and that is refused.
    """
    if unknown_window not in UNKNOWN_WINDOW:
        raise ValueError(f"unknown_window is {unknown_window!r}; it must be 'replace', 'refuse' or None.")
    live, name = target.resource.window_end, target.endpoint.name
    if live is None or candidate.window is None:
        last, own_last = (told.last if told else None for told in (target.resource.window, candidate.told))
        if last is not None and own_last is not None and not _is_first(target):
            return _keeps(name, "its data go", last, "those of this one", own_last) if own_last < last else None
    if live is None:
        _allow_unknown(target, unknown_window, log)
        return None
    if candidate.window is None:
        raise ValueError(
            f"The training window of {candidate.location.location} is unknown, so only_if_newer=True cannot decide. "
            "Set window_end, give a model whose path holds its stamp (20260131T000000Z), or set only_if_newer=False."
        )
    if candidate.window.end < live:
        return _keeps(name, "it was trained on data", live, "this one", candidate.window.end)
    trained, own_trained = (told.trained_at if told else None for told in (target.resource.window, candidate.told))
    if candidate.window.end > live or trained is None or own_trained is None or own_trained >= trained:
        return None
    return (
        f"Endpoint {name!r} keeps its model: both are trained on data up to {moment_text(live)}, the live one at "
        f"{moment_text(trained)}, this one earlier, at {moment_text(own_trained)}."
    )


def _keeps(name: str, live: str, end: datetime, own: str, own_end: datetime) -> str:
    ends = moment_text(end), moment_text(own_end)
    return f"Endpoint {name!r} keeps its model: {live} up to {ends[0]}, {own} only up to {ends[1]}."


def _is_first(target: Target) -> bool:
    """Whether the live model is the one that a web service began with, which any retrained one is newer than."""
    return target.resource.window is not None and target.resource.window.is_first


def _allow_unknown(target: Target, unknown_window: str | None, log: Callable[[str], object]) -> None:
    """Raise if a model of an unknown window must not be replaced; the one that a service began with always may."""
    resource = target.resource
    if _is_first(target):
        return
    where = resource.location.location if resource.location else "which the service does not name"
    problem = (
        f"The training window of the live model of endpoint {target.endpoint.name!r}, {where}, is unknown, so "
        "only_if_newer=True cannot tell whether the new model is newer."
    )
    # A service that tells windows knows that of every model whose training was submitted with one.
    if unknown_window == "refuse" or (unknown_window is None and resource.window is not None):
        raise ValueError(
            f"{problem} If the new model is to replace it, set unknown_window='replace', once: the new model's window "
            "is known from then on."
        )
    log(f"{problem} It is replaced all the same; unknown_window='refuse' fails the task instead.")
