"""What a command is given, and what it ends with."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from airflow_provider_azureml_classic.cli.access import Access
from airflow_provider_azureml_classic.cli.output import Output
from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.job_history import MAX_PAGE

T = TypeVar("T")

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


def listed_until(ask: Callable[[int, Any], tuple[Sequence[T], Any]], wanted: int) -> list[T]:
    """The first entries of a list in pages.

    :param ask: for a page: called with the most that it may have, and where the page before said that it ended; returns
        its entries, and what it says of that.
    :param wanted: the most entries.
    """
    found: list[T] = []
    before: Any = None
    while len(found) < wanted:
        entries, before = ask(min(wanted - len(found), MAX_PAGE), before)
        found += entries
        if before is None or not entries:
            break
    return found


#: A command: returns its exit status.
Command = Callable[[Session], int]


def pairs(texts: Sequence[str], option: str, lone: str | None) -> list[tuple[str, str]]:
    """``NAME=VALUE`` arguments.

    :param texts: as given.
    :param option: for the message.
    :param lone: name of a value that is given without one; ``None`` if it must have one.
    :raises ValueError: no ``NAME=``, or a name twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        # A URL's query has an equals sign too; a name has none of a URL's signs.
        if not equals or set(name) & set("/:?.;"):
            if lone is None:
                raise ValueError(f"{option} {text!r} is not NAME=VALUE.")
            name, value = lone, text
        if name in found:
            raise ValueError(f"{option} names {name!r} twice.")
        found[name] = value
    return list(found.items())
