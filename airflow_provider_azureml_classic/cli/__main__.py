"""Entry point of ``azureml-classic``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from airflow_provider_azureml_classic.cli.access import Access
from airflow_provider_azureml_classic.cli.arguments import parser
from airflow_provider_azureml_classic.cli.output import Output, printable
from airflow_provider_azureml_classic.cli.session import (
    DONE,
    INTERRUPTED,
    JOB_ENDED_BADLY,
    REFUSED,
    UNAVAILABLE,
    USAGE,
    Session,
)
from airflow_provider_azureml_classic.exceptions import (
    AzureMLClassicError,
    JobCancelled,
    JobFailed,
    WaitTimeout,
    cause,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status.

    :param argv: arguments; those of the process by default.
    """
    known = parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(known)
    arguments = known.parse_args(argv)
    try:
        if arguments.run is None:
            alone: int = arguments.alone(arguments, Output(arguments.output))
            return alone
        access = Access.of(arguments, os.environ)
        with access.client() as client:
            status: int = arguments.run(Session(client, access, arguments, Output(arguments.output)))
            return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; Python would complain once more when it closes the output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (ValueError, OSError) as error:
        return _ended(USAGE, error)
    except AzureMLClassicError as error:
        return _ended(_status(error), error)


def _status(error: AzureMLClassicError) -> int:
    if isinstance(error, JobFailed | JobCancelled):
        return JOB_ENDED_BADLY
    return UNAVAILABLE if error.retryable or isinstance(error, WaitTimeout) else REFUSED


def _ended(status: int, error: Exception) -> int:
    text = f"{cause(error)}." if isinstance(error, OSError) else str(error)
    print(printable(f"azureml-classic: {text}"), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
