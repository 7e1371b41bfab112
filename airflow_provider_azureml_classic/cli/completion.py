"""Completion of commands and of names that only the service knows."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from airflow_provider_azureml_classic.cli.access import Access
from airflow_provider_azureml_classic.cli.output import Output
from airflow_provider_azureml_classic.cli.session import DONE
from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.client.retries import NO_RETRIES
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol.values import is_check_endpoint

#: Seconds that a person is kept waiting at the Tab key.
_PATIENCE = 2.0


def print_script(arguments: argparse.Namespace, out: Output) -> int:
    """Print what a shell has to evaluate.

    :param arguments: with ``shell``: ``bash``, ``zsh`` or ``fish``.
    :param out: not used: a shell reads the script as it is.
    """
    from argcomplete.shell_integration import shellcode

    print(shellcode(["azureml-classic"], shell=arguments.shell))
    return DONE


def service_names(prefix: str, parsed_args: argparse.Namespace, **others: object) -> list[str]:
    """Names of the web services.

    :param prefix: what was typed so far.
    :param parsed_args: the arguments before it.
    """
    return _asked(parsed_args, lambda client: [service.name for service in client.list_web_services()])


def endpoint_names(prefix: str, parsed_args: argparse.Namespace, **others: object) -> list[str]:
    """Names of the endpoints of the web service that was named before.

    :param prefix: what was typed so far.
    :param parsed_args: the arguments before it.
    """

    def ask(client: Client) -> list[str]:
        service = client.find_web_service(parsed_args.service)
        names = (endpoint.name for endpoint in client.list_endpoints(service.id))
        return [name for name in names if not is_check_endpoint(name)]

    return _asked(parsed_args, ask)


def _asked(arguments: argparse.Namespace, ask: Callable[[Client], list[str]]) -> list[str]:
    """What the service says; nothing at all where it says nothing in time."""
    try:
        access = Access.of(arguments, os.environ)
        with Client(
            access.url,
            access.workspace_id,
            access.token,
            timeout=_PATIENCE,
            verify=access.verify,
            retries=NO_RETRIES,
        ) as client:
            return ask(client)
    except (AzureMLClassicError, ValueError):
        return []
