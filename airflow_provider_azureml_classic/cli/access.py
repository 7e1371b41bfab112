"""Which service the command line talks to, and what opens it.

Rule: a token is never an argument, where every user of the machine could read it; it comes from the environment, from
a profile, the ``connection.json`` that the server writes, or an Airflow connection.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.cli import profiles
from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol.messages import read_json
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import StorageAccount

URL_VARIABLE = "AZUREML_CLASSIC_URL"
WORKSPACE_VARIABLE = "AZUREML_CLASSIC_WORKSPACE"
TOKEN_VARIABLE = "AZUREML_CLASSIC_TOKEN"  # noqa: S105 - the name of a variable
STORAGE_VARIABLE = "AZUREML_CLASSIC_STORAGE_CONNECTION_STRING"
FILE_VARIABLE = "AZUREML_CLASSIC_CONNECTION"
PROFILE_VARIABLE = "AZUREML_CLASSIC_PROFILE"

_WAYS = (
    f"Name the service: `azureml-classic login` once, --connection DIR/connection.json (the server writes it), "
    f"--conn-id ID (an Airflow connection), or set {URL_VARIABLE}, {WORKSPACE_VARIABLE} and {TOKEN_VARIABLE}."
)
_SAS_LIFE = timedelta(hours=2)


@dataclass(frozen=True)
class Access:
    """What is needed to call the service.

    :param url: base of the management calls.
    :param workspace_id: the workspace.
    :param token: its authorization token.
    :param storage: connection string of the account in which bare paths are, or empty.
    :param verify: check certificates, or a path to a bundle of them.
    :param timeout: seconds allowed for one call.
    """

    url: str
    workspace_id: str
    token: str = field(repr=False)
    storage: str = field(default="", repr=False)
    verify: bool | str = True
    timeout: float = 30.0

    @classmethod
    def of(cls, arguments: argparse.Namespace, environ: Mapping[str, str]) -> Access:
        """From arguments, environment and profiles; an argument goes before a variable, a variable before the profile
        ``default``.

        :param arguments: with ``conn_id``, ``connection`` and ``profile``; at most one of them is set.
        :param environ: environment variables.
        :raises ValueError: neither names a service, or not all of it; the message lists the ways.
        """
        options = {"--conn-id": arguments.conn_id, "--connection": arguments.connection, "--profile": arguments.profile}
        named = [name for name, value in options.items() if value]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} each name a service: leave one.")
        if arguments.conn_id:
            return cls._of_airflow(arguments.conn_id)
        if arguments.connection:
            return cls._of_file(arguments.connection)
        if arguments.profile:
            return cls._of_profile(arguments.profile, environ)
        if environ.get(URL_VARIABLE, "").strip():
            return cls._of_environment(environ)
        if environ.get(FILE_VARIABLE, "").strip():
            return cls._of_file(Path(environ[FILE_VARIABLE]))
        name = environ.get(PROFILE_VARIABLE, "").strip()
        if name or profiles.DEFAULT in profiles.load(profiles.config_path(environ)):
            return cls._of_profile(name or profiles.DEFAULT, environ)
        raise ValueError(_WAYS)

    @classmethod
    def _of_environment(cls, environ: Mapping[str, str]) -> Access:
        names = (URL_VARIABLE, WORKSPACE_VARIABLE, TOKEN_VARIABLE)
        missing = [name for name in names if not environ.get(name, "").strip()]
        if missing:
            raise ValueError(f"{', '.join(missing)} must be set together with {URL_VARIABLE}.")
        url, workspace, token = (environ[name].strip() for name in names)
        return cls(url, workspace, token, environ.get(STORAGE_VARIABLE, "").strip())

    @classmethod
    def _of_profile(cls, name: str, environ: Mapping[str, str]) -> Access:
        path = profiles.config_path(environ)
        known = profiles.load(path)
        if name not in known:
            raise ValueError(
                f"{path} has no profile {name!r}; it has: {', '.join(known) or 'none'}. "
                f"`azureml-classic login --profile {name} URL WORKSPACE` makes it."
            )
        profile = known[name]
        storage = profile.get("storage_connection_string", "")
        return cls(profile["url"], profile["workspace"], profile["token"], storage)

    @classmethod
    def _of_file(cls, path: Path) -> Access:
        try:
            document: Any = read_json(path.read_text())
            airflow = read_json(document["airflow_conn"])
            extra = airflow.get("extra") or {}
            return cls(
                document["management_url"],
                document["workspace_id"],
                document["token"],
                extra.get("storage_connection_string") or "",
            )
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}. {_WAYS}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{path} is not the connection.json that azureml-classic-server writes. {_WAYS}") from None

    @classmethod
    def _of_airflow(cls, conn_id: str) -> Access:
        try:
            # Airflow logs to standard output, where only answers belong.
            with redirect_stdout(sys.stderr):
                # Airflow takes seconds to import; the other ways in do without it.
                from airflow_provider_azureml_classic.hooks import stored_settings

                settings = stored_settings(conn_id)
        except ValueError:
            raise
        except Exception as error:
            # Airflow raises one of several classes here, depending on how its connections are kept.
            raise ValueError(f"Airflow has no usable connection {conn_id!r}: {error}") from None
        return cls(
            settings.management_url,
            settings.workspace_id,
            settings.token,
            settings.storage_connection_string,
            settings.verify,
            settings.timeout,
        )

    def client(self) -> Client:
        """A blocking client.

        :raises ValueError: the URL, the workspace id or the token cannot be one.
        """
        try:
            return Client(self.url, self.workspace_id, self.token, timeout=self.timeout, verify=self.verify)
        except AzureMLClassicError as error:
            raise ValueError(error.message) from None

    def place(self, text: str) -> BlobReference:
        """The reference that a user typed: a URL, or ``container/path`` in the storage account if one is known.

        :param text: as typed.
        """
        reference = BlobReference.parse(text)
        if reference.base_location or not self.storage:
            return reference
        return BlobReference(reference.relative_location, connection_string=self.storage)

    def readable(self, reference: BlobReference) -> BlobReference:
        """A reference with a token to read it where the storage account holds the blob, else as it is.

        :param reference: with or without a token.
        """
        if reference.sas_token or not self.storage:
            return reference
        account = StorageAccount.from_connection_string(self.storage)
        return account.opened(reference, "r", _SAS_LIFE, datetime.now(UTC)) or reference

    def signed(self, text: str, permissions: str, client: Client) -> BlobReference:
        """The same with a SAS token, so that the command line itself can read or write it.

        :param text: as typed; a URL with a token stays as it is.
        :param permissions: ``r`` to read, ``cw`` to write.
        :param client: of the service, which opens its own store where no storage account is known.
        :raises ValueError: nothing allows that.
        :raises AzureMLClassicError: the service does not open it.
        """
        reference = BlobReference.parse(text)
        if reference.sas_token:
            return reference
        if "/" not in reference.relative_location:
            raise ValueError(f"{text!r} is not container/path.")
        if not self.storage:
            return client.sign_blob(reference)
        account = StorageAccount.from_connection_string(self.storage)
        opened = account.opened(reference, permissions, _SAS_LIFE, datetime.now(UTC))
        if opened is None:
            raise ValueError(
                f"Nothing opens {reference.location!r}: give a URL with a SAS token, or set {STORAGE_VARIABLE}."
            )
        return opened
