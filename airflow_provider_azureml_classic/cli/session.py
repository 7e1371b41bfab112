"""What a command is given, and what it ends with."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_azureml_classic.cli.access import Access
from airflow_provider_azureml_classic.cli.output import Output
from airflow_provider_azureml_classic.client import Client

#: Exit statuses; 2 is also what argparse ends with. 128 + 2 follows Ctrl-C.
DONE, REFUSED, USAGE, JOB_ENDED_BADLY, UNAVAILABLE, KEPT, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130


@dataclass(frozen=True)
class Session:
    """One run of the command line.

    :param client: of the service.
    :param access: which service that is.
    :param arguments: as parsed.
    :param out: where answers go.
    """

    client: Client
    access: Access
    arguments: argparse.Namespace
    out: Output

    def sure(self, what: str) -> bool:
        """Whether the person means it: asked on a terminal, said by ``--yes`` elsewhere.

        :param what: what is about to be lost.
        :raises ValueError: there is nobody to ask.
        """
        if self.arguments.yes:
            return True
        if not sys.stdin.isatty():
            raise ValueError(f"{what} cannot be undone; say --yes.")
        self.out.say(f"{what} cannot be undone. Go on? [y/N]")
        return sys.stdin.readline().strip().lower() in ("y", "yes")


#: A command: returns its exit status.
Command = Callable[[Session], int]
