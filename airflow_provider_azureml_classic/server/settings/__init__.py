"""Settings of one server process and the secrets it keeps in its data directory."""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, without_query
from airflow_provider_azureml_classic.protocol.messages import read_json
from airflow_provider_azureml_classic.protocol.sas import StorageAccount
from airflow_provider_azureml_classic.server.folders import read_file, write_private
from airflow_provider_azureml_classic.server.storage.accounts import Accounts, read_map

WORKSPACE_VARIABLE = "AZUREML_CLASSIC_WORKSPACE"
TOKEN_VARIABLE = "AZUREML_CLASSIC_TOKEN"  # noqa: S105 - the name of a variable
READ_TOKEN_VARIABLE = "AZUREML_CLASSIC_READ_TOKEN"  # noqa: S105 - likewise
ACCOUNT_KEY_VARIABLE = "AZUREML_CLASSIC_ACCOUNT_KEY"
CIPHER_KEY_VARIABLE = "AZUREML_CLASSIC_CIPHER_KEY"
#: Member of ``secrets.json`` -> the variable that overrides it.
VARIABLES = {
    "workspace_id": WORKSPACE_VARIABLE,
    "token": TOKEN_VARIABLE,
    "account_key": ACCOUNT_KEY_VARIABLE,
    "cipher_key": CIPHER_KEY_VARIABLE,
}
STORAGE_VARIABLE = "AZUREML_CLASSIC_STORAGE"
STORAGE_ACCOUNTS_VARIABLE = "AZUREML_CLASSIC_STORAGE_ACCOUNTS"
#: Storage account of the server's own store: first segment of its blobs' paths.
ACCOUNT = "mlclassic"
#: Seconds that a scoring call may take (azure-docs ``stream-analytics-scale-with-machine-learning-functions``).
SCORE_TIMEOUT = 100.0
#: Days for which the audit list is kept unless that is set, and at most.
AUDIT_DAYS, MAX_AUDIT_DAYS = 90, 3660
#: Days for which models, outputs and logs may be kept, at most.
MAX_RETENTION_DAYS = 36_600
#: Bytes of loaded models: seven hundred with a session of ONNX Runtime each, or thirteen thousand of boosted trees.
MODEL_MEMORY = 1 << 30


@dataclass(frozen=True)
class Retention:
    """How many days is kept what jobs leave, from their end on; ``None``: for ever.

    :param model_days: a model, its evaluation and its samples; and as long can be rolled back to what was live.
    :param output_days: what jobs write that train no model.
    :param log_days: logs of jobs, and diagnostics logs.
    """

    model_days: int | None = None
    output_days: int | None = None
    log_days: int | None = None


@dataclass(frozen=True)
class Settings:
    """What a server process is told.

    :param data_dir: holds everything that survives a restart.
    :param public_url: base of every URL that the server hands out, without a trailing slash.
    :param workspace_id: the one workspace.
    :param token: its authorization token.
    :param account_key: key of the own store, base64.
    :param read_token: token of the workspace that changes nothing and is shown no key; empty: there is none.
    :param cipher_key: key with which secrets are encrypted in the database.
    :param allowed_hosts: hosts, besides the own store, that a location may name.
    :param private_hosts: the same, for names that may resolve to private addresses.
    :param workers: training processes.
    :param database: SQLAlchemy URL of a database for several servers; empty: SQLite in ``data_dir``.
    :param storage: account of the service's outputs and models; ``None``: the data directory.
    :param storage_accounts: account name -> address of its blobs, see :mod:`.accounts`.
    :param scheduler: address of the Dask scheduler that trainings are sent to; ``None``: own processes.
    :param open_metrics: ``/metrics`` needs no token.
    :param access_log: each answered request is logged.
    :param score_timeout: seconds that a scoring call may take.
    :param model_memory: bytes that loaded models may take.
    :param trusted_proxies: addresses and networks of proxies that are believed who their client is.
    :param evaluation_columns: golden and check rows are columns of the evaluation, too.
    :param audit_days: days for which the audit list is kept.
    :param retention: how long is kept what jobs leave.
    :param certificate: files of the certificate and its key to answer with over TLS; ``None``: without.
    :param sign_in_code: what a link to the portal holds that signs in once; empty: there is none.
    :param redeclared: experiments whose declaration may have changed since they were set up.
    :param adopt: data directory and database belong together, whatever they remember.
    """

    data_dir: Path
    public_url: str
    workspace_id: str
    token: str = field(repr=False)
    account_key: str = field(repr=False)
    cipher_key: str = field(repr=False)
    read_token: str = field(default="", repr=False)
    allowed_hosts: frozenset[str] = frozenset()
    private_hosts: frozenset[str] = frozenset()
    workers: int = 2
    database: str = field(default="", repr=False)
    storage: StorageAccount | None = None
    storage_accounts: Mapping[str, str] = field(default_factory=dict)
    scheduler: str | None = None
    open_metrics: bool = False
    access_log: bool = False
    score_timeout: float = SCORE_TIMEOUT
    model_memory: int = MODEL_MEMORY
    adopt: bool = False
    sign_in_code: str = field(default="", repr=False)
    trusted_proxies: tuple[str, ...] = ()
    evaluation_columns: bool = False
    redeclared: frozenset[str] = frozenset()
    certificate: tuple[Path, Path] | None = None
    audit_days: int = AUDIT_DAYS
    retention: Retention = field(default_factory=Retention)

    @property
    def account(self) -> StorageAccount:
        """The storage account that the own store plays."""
        return StorageAccount(ACCOUNT, self.account_key, f"{self.public_url}/{ACCOUNT}")

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no log may hold."""
        return self.token, self.read_token, self.account_key, self.cipher_key

    def is_token(self, key: str) -> bool:
        """Whether a key is the workspace token.

        :param key: as it was sent.
        """
        return hmac.compare_digest(key.encode(), self.token.encode())

    def is_read_token(self, key: str) -> bool:
        """Whether a key is the read-only token of the workspace.

        :param key: as it was sent.
        """
        return bool(self.read_token) and hmac.compare_digest(key.encode(), self.read_token.encode())

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the state."""
        return self.database or f"sqlite:///{self.data_dir / 'state.db'}"


def checked_public_url(text: str) -> str:
    """The base of every URL that the server hands out, without a trailing slash.

    :param text: as it was given.
    :raises ValueError: it is no such base; the message says what one looks like.
    """
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text):
        raise ValueError(
            f"--public-url is {without_query(text)!r}; it must be the address that clients use, as in "
            "https://ml.example.com, without a query."
        )
    return text.rstrip("/")


def checked_proxy(text: str) -> str:
    """Address or network of a proxy.

    :param text: as it was given.
    :raises ValueError: it is none; the message says what one looks like.
    """
    try:
        network = ip_network(text.strip())
    except ValueError:
        raise ValueError(
            f"--trusted-proxy is {text!r}; it must be the address that the proxy calls from, as in 127.0.0.1, or a "
            "network in which there are proxies alone, as in 10.0.5.0/28."
        ) from None
    if network.prefixlen == 0:
        raise ValueError(f"--trusted-proxy is {text!r}: that is everybody. Give the address of the proxy.")
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def storage_from(
    argument: str | None, accounts: Iterable[str], environ: Mapping[str, str]
) -> tuple[StorageAccount | None, dict[str, str]]:
    """The account of the service's outputs, at its address, and the map of accounts.

    :param argument: connection string of the command line, before that of the environment.
    :param accounts: items of the command line, besides those of the environment.
    :param environ: environment variables.
    :raises ValueError: one cannot be used; the message says which and why.
    """
    addresses = read_map([*environ.get(STORAGE_ACCOUNTS_VARIABLE, "").split(), *accounts])
    text = argument or environ.get(STORAGE_VARIABLE, "").strip()
    if not text:
        return None, addresses
    try:
        account = StorageAccount.from_connection_string(text)
    except AzureMLClassicError as error:
        raise ValueError(f"{STORAGE_VARIABLE} or --storage: {error.message}") from None
    if not account.key:
        raise ValueError(
            f"{STORAGE_VARIABLE} or --storage must be a connection string with an AccountKey: the server signs the "
            "addresses of results with it."
        )
    return replace(account, endpoint=Accounts(account, addresses).account(text).endpoint), addresses


@dataclass(frozen=True)
class Secrets:
    """Made at the first start, kept in ``secrets.json`` (mode 0600)."""

    workspace_id: str
    token: str = field(repr=False)
    account_key: str = field(repr=False)
    cipher_key: str = field(repr=False)


def load_secrets(data_dir: Path, environ: Mapping[str, str]) -> Secrets:
    """The secrets of ``data_dir``, made if this is its first start; the environment overrides them.

    :param data_dir: the server's data directory.
    :param environ: environment variables.
    :raises ValueError: a variable that cannot be used, or an unreadable file.
    """
    path = data_dir / "secrets.json"
    # A link that leads nowhere is there, too: nothing can be written in its place.
    stored = _read(path, environ) if os.path.lexists(path) else {}
    loaded = _merged(stored, environ)
    text = json.dumps(asdict(loaded), indent=2)
    if not stored:
        if not write_private(path, text, overwrite=False):
            # Another server's first start was faster: its secrets are everybody's.
            return load_secrets(data_dir, environ)
    elif asdict(loaded) != stored:
        write_private(path, text)
    return loaded


def read_token(secrets_: Secrets, environ: Mapping[str, str]) -> str:
    """The read-only token of the workspace: that of the environment, or one that follows from the secrets.

    All servers of a workspace come to the same one, and a new workspace token makes a new one. The other way, from it
    to the workspace token, there is none.

    :param secrets_: of the workspace.
    :param environ: environment variables.
    :raises ValueError: it is the workspace token.
    """
    token = environ.get(READ_TOKEN_VARIABLE, "").strip()
    if token == secrets_.token:
        raise ValueError(f"{READ_TOKEN_VARIABLE} is the workspace token, which may change everything; choose another.")
    message = b"read-only token " + secrets_.token.encode()
    return token or base64.b64encode(hmac.digest(secrets_.cipher_key.encode(), message, "sha512")).decode()


def new_secrets(environ: Mapping[str, str]) -> Secrets:
    """Secrets that nothing keeps: those of the environment, checked, and new ones beside them.

    :param environ: environment variables.
    :raises ValueError: a variable that cannot be used.
    """
    return _merged({}, environ)


def _merged(stored: Mapping[str, str], environ: Mapping[str, str]) -> Secrets:
    overrides = {member: environ.get(variable, "").strip() for member, variable in VARIABLES.items()}
    merged = Secrets(**{member: overrides[member] or stored.get(member) or make() for member, make in _MAKERS.items()})
    _check(merged)
    return merged


def _check(loaded: Secrets) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", loaded.workspace_id):
        raise ValueError(
            f"{WORKSPACE_VARIABLE} is {loaded.workspace_id!r}; it must be letters and digits, ideally 32 hex digits."
        )
    try:
        base64.b64decode(loaded.account_key, validate=True)
    except ValueError:
        raise ValueError(f"{ACCOUNT_KEY_VARIABLE} must be in Base64, like the key of a storage account.") from None
    try:
        Fernet(loaded.cipher_key)
    except ValueError:
        raise ValueError(f"{CIPHER_KEY_VARIABLE} must be 32 bytes in URL-safe Base64.") from None


def _read(path: Path, environ: Mapping[str, str]) -> dict[str, str]:
    try:
        members = read_json(read_file(path)).items()
        stored = {name: value for name, value in members if value and isinstance(value, str)}
        lacking = [name for name in VARIABLES if name not in stored]
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}). Restore it: the keys of all endpoints depend on it.") from None
    for name in lacking:
        # A new one would not open what was encrypted or signed with the one that was lost.
        if not environ.get(VARIABLES[name], "").strip():
            raise ValueError(
                f"{path} is damaged: it has no {name}. Restore it, or give {VARIABLES[name]}: the keys of all "
                "endpoints depend on it."
            )
    return stored


def new_key() -> str:
    """A fresh key in the form of the cloud service's: 64 random bytes in base64, 88 characters ending ``==``."""
    return base64.b64encode(secrets.token_bytes(64)).decode()


#: Member of ``secrets.json`` -> what makes it at the first start.
_MAKERS: dict[str, Callable[[], str]] = {
    "workspace_id": lambda: uuid.uuid4().hex,
    "token": new_key,
    "account_key": new_key,
    "cipher_key": lambda: Fernet.generate_key().decode(),
}


def connection_document(settings: Settings) -> dict[str, str]:
    """What a client needs to reach this server: content of ``connection.json``.

    :param settings: the running server's.
    """
    return {
        "management_url": settings.public_url,
        "workspace_id": settings.workspace_id,
        "token": settings.token,
        "read_token": settings.read_token,
        "airflow_conn": json.dumps(_airflow_connection(settings)),
    }


def airflow_connections(settings: Settings) -> dict[str, dict[str, Any]]:
    """What ``airflow connections import`` reads: content of ``airflow_connections.json``.

    A connection on Airflow's command line would stand in its audit log, with all secrets; the name of a file may.

    :param settings: the running server's.
    """
    connection = _airflow_connection(settings)
    return {"azureml_classic_default": {**connection, "extra": json.dumps(connection["extra"])}}


def _airflow_connection(settings: Settings) -> dict[str, Any]:
    return {
        "conn_type": "azureml_classic",
        "host": settings.public_url,
        "login": settings.workspace_id,
        "password": settings.token,
        "extra": {"storage_connection_string": (settings.storage or settings.account).connection_string},
    }
