"""A model's trial, before it is put in place: rules, several rows, memory and time.

As a program it is told how many seconds of a processor a trial may take. It reads paths of model files, one a line, and
writes a line of JSON for each: ``null``, or what is wrong. What takes longer ends, and the process with it.
A graph from elsewhere may take any time and memory, or the process with it: so this one is none that serves.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.server.experiments import graph_rules
from airflow_provider_azureml_classic.server.experiments.graph import Graph, fits_rows, step_of
from airflow_provider_azureml_classic.server.experiments.ilearner import read_ilearner

#: Bytes of a model file for which a trial may take a second more.
BYTES_A_SECOND = 16 << 20
#: Bytes that it may take: so many, and so many more for each of the model file.
FREE_MEMORY, MEMORY_A_BYTE = 1 << 30, 16


def tried(path: Path) -> None:
    """Try a model.

    :param path: its file.
    :raises RequestRejected: ``ModelInvalid``: it breaks a rule, cannot be loaded, or does not give as many answers as
        it is given rows.
    """
    manifest, content = read_ilearner(path)
    problem = graph_rules.problem(content)
    if problem:
        raise _invalid(f"{problem}. A model holds only what this server's own trainings write")
    graph = Graph(manifest, content)
    # As many as a call is ever given at a time: whatever the rows are, no call takes more than this one.
    for rows in (2, 7, step_of(content)):
        try:
            fits = fits_rows(manifest, graph, rows)
        except Exception as error:  # onnxruntime's errors have no common base
            raise _invalid(f"{rows} rows: {' '.join(str(error).split())[:300]}") from None
        if not fits:
            raise _invalid(f"it does not give an answer as its manifest describes it for each of {rows} rows")


def _invalid(reason: str) -> AzureMLClassicError:
    return rejection("ModelInvalid", f"The trained model cannot be used: {reason}. Train it again.")


def _limit(size: int, seconds: int) -> None:
    """Let this process have as much as a trial may have, besides what it has."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + seconds + size // BYTES_A_SECOND)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + FREE_MEMORY + MEMORY_A_BYTE * size)


def _lower(kind: int, most: int) -> None:
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def main() -> None:
    """Try models until there are no more."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        path = Path(json.loads(line))
        _limit(path.stat().st_size, int(sys.argv[1]))
        try:
            tried(path)
            said = None
        except AzureMLClassicError as error:
            said = error.message if not error.details else error.details[0].message
        except MemoryError:
            said = "The trained model cannot be used: it takes too much memory. Train it again."
        try:
            print(json.dumps(said), flush=True)
        except BrokenPipeError:
            # The server was killed; at its end Python would try to write once more.
            os._exit(0)


if __name__ == "__main__":
    main()
