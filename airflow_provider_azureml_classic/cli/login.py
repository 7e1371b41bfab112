"""``azureml-classic login`` and ``logout``: services that later commands need not name.

These two run without a session: there is nobody to talk to yet.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys

from airflow_provider_azureml_classic.cli import profiles
from airflow_provider_azureml_classic.cli.access import STORAGE_VARIABLE, Access
from airflow_provider_azureml_classic.cli.output import Output
from airflow_provider_azureml_classic.cli.session import DONE


def login(arguments: argparse.Namespace, out: Output) -> int:
    """Try a service and its token, then keep them as a profile.

    :param arguments: with ``url`` and ``workspace``, or the option ``--connection`` or ``--conn-id``; and ``profile``,
        the name to keep it under.
    :param out: where answers go.
    :raises ValueError: too little was given, or the profiles cannot be kept.
    """
    name = arguments.profile or profiles.DEFAULT
    path = profiles.config_path(os.environ)
    kept = profiles.load(path)
    access = _access(arguments)
    with access.client() as client:
        services = client.list_web_services()
    profile = {"url": access.url, "workspace": access.workspace_id, "token": access.token}
    if access.storage:
        profile["storage_connection_string"] = access.storage
    profiles.save(path, {**kept, name: profile})
    out.record({"profile": name, "url": access.url, "web_services": len(services), "kept_in": str(path)})
    return DONE


def _access(arguments: argparse.Namespace) -> Access:
    if arguments.connection or arguments.conn_id:
        if arguments.url:
            raise ValueError("Give a URL and a workspace id, or --connection, or --conn-id; not several.")
        return Access.of(argparse.Namespace(**{**vars(arguments), "profile": None}), {})
    if not arguments.url or not arguments.workspace:
        raise ValueError(
            "Give the URL of the service and the workspace id, or --connection DIR/connection.json, which the server "
            "writes."
        )
    return Access(arguments.url, arguments.workspace, _token(), os.environ.get(STORAGE_VARIABLE, "").strip())


def _token() -> str:
    token = getpass.getpass("Workspace token: ") if sys.stdin.isatty() else sys.stdin.readline()
    if not token.strip():
        raise ValueError("No token was given; it is read from the terminal, or from standard input.")
    return token.strip()


def logout(arguments: argparse.Namespace, out: Output) -> int:
    """Forget a profile.

    :param arguments: with ``profile``.
    :param out: where answers go.
    :raises ValueError: there is none of this name.
    """
    name = arguments.profile or profiles.DEFAULT
    path = profiles.config_path(os.environ)
    kept = profiles.load(path)
    if name not in kept:
        raise ValueError(f"{path} has no profile {name!r}; it has: {', '.join(kept) or 'none'}.")
    profiles.save(path, {key: profile for key, profile in kept.items() if key != name})
    out.say(f"Forgot the profile {name!r}.")
    return DONE
