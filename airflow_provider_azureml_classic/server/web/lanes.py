"""Where a request is answered. The first lane that fits is taken; nothing else decides it.

==========  ===========================================================  ========================================
lane        which requests                                               where they are answered
==========  ===========================================================  ========================================
(batch)     scoring calls whose head is that of the call before them on  together with those that arrive in the
            their connection, small, without parameters, of an endpoint  same turn of the event loop:
            that :meth:`.Scoring.predictor` answers for                  :class:`.microbatch.MicroBatcher`
``LOOP``    small scoring calls of an endpoint that is remembered and    on the event loop itself
            whose model is loaded
``THREAD``  other scoring calls of an endpoint that is remembered        in a thread, within a time
``READER``  scoring calls of any other endpoint, and those of the Open   the same, in a thread that may wait for
            Inference Protocol                                           the database
``FILE``    files that are read as the rows of a scoring call: a few   the same, two at a time
            hundred bytes of Parquet stand for very many
``OTHER``   everything else                                              in a thread that may wait for the database,
                                                                         without a time
==========  ===========================================================  ========================================

The first is decided by the connection before a request exists, and goes back to the others whatever is unusual.
"""

from __future__ import annotations

from enum import Enum, auto

from airflow_provider_azureml_classic.protocol.operations import is_inference, is_read_rows, is_score
from airflow_provider_azureml_classic.server.workspace.scoring import Scoring
from airflow_provider_azureml_classic.server.workspace.workspace import Workspace

#: Largest body, in bytes, of a call that is answered without a thread of its own, and most rows in it, about.
MAX_AT_ONCE, MAX_ROWS_AT_ONCE = 16_384, 100


class Lane(Enum):
    """Where a request is answered."""

    LOOP = auto()
    THREAD = auto()
    READER = auto()
    FILE = auto()
    OTHER = auto()


def lane(method: str, path: str, body: bytes, workspace: Workspace, scoring: Scoring) -> Lane:
    """The lane of a request.

    :param method: HTTP method.
    :param path: raw path.
    :param body: the whole body.
    :param workspace: remembers endpoints.
    :param scoring: knows which models are loaded.
    """
    if not is_score(path):
        if is_read_rows(path):
            return Lane.FILE
        return Lane.READER if is_inference(path) else Lane.OTHER
    endpoint = workspace.cached(path.rsplit("/", 2)[1])
    if endpoint is None:
        return Lane.READER
    if method == "POST" and is_small(body) and scoring.is_ready(endpoint):
        return Lane.LOOP
    return Lane.THREAD


def is_small(body: bytes) -> bool:
    """Whether a call of this body takes so little that other calls may wait for it.

    A row is a list or an object; of many rows, whatever their names, a few bytes may make much work.

    :param body: the whole body.
    """
    return len(body) <= MAX_AT_ONCE and body.count(b"{") + body.count(b"[") <= MAX_ROWS_AT_ONCE
