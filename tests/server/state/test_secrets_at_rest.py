"""Where secrets are, and where they are not: files, database, logs, code that could run what it reads."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import requests
from cryptography.fernet import Fernet

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.keys import KeyType
from airflow_provider_azureml_classic.server.state.cipher import Cipher, WrongKey
from tests.support import BIKES_SCORING, ROOT, ServerProcess
from tests.support.service import TOKEN, Service

PACKAGE = ROOT / "airflow_provider_azureml_classic"
#: Modules that run what they read.
UNPICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def test_keys_are_encrypted_in_the_database(service: Service) -> None:
    """Neither key of an endpoint stands in any file of the state, write-ahead log included."""
    made = service.client.add_endpoint(service.scoring, "locked")
    made = service.client.regenerate_key(service.scoring, "locked", KeyType.PRIMARY)
    files = [path for path in service.settings.data_dir.glob("state.db*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in files)
    assert b"locked" in content
    for secret in (made.primary_key, made.secondary_key, TOKEN):
        assert secret.encode() not in content


def test_what_is_encrypted_opens_with_its_key_only() -> None:
    """Old and new values open with the key and with no other, nor after a change; no two of the same text are equal."""
    key = Fernet.generate_key().decode()
    cipher, other = Cipher(key), Cipher(Fernet.generate_key().decode())
    made = cipher.encrypt(b"secret")
    assert made != cipher.encrypt(b"secret")
    for token in (made, Fernet(key).encrypt(b"secret")):
        assert cipher.decrypt(token) == b"secret"
        with pytest.raises(WrongKey):
            other.decrypt(token)
        with pytest.raises(WrongKey):
            cipher.decrypt(token[:-1] + bytes([token[-1] ^ 1]))
    for damaged in (b"", made[:1], made[:20]):
        with pytest.raises(WrongKey):
            cipher.decrypt(damaged)


@pytest.mark.slow
def test_nothing_of_the_package_unpickles() -> None:
    """No module that runs what it reads is imported anywhere, nor numpy or pandas told to unpickle."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & UNPICKLING, path
        assert not re.search(r"allow_pickle|read_pickle|\byaml\.load\b|\beval\(|\bexec\(", text), path


@pytest.mark.slow
def test_the_log_has_no_secret(server: ServerProcess, client: Client) -> None:
    """Good and bad calls with every kind of secret: none of them is in the log of a real process."""
    service = client.find_web_service(BIKES_SCORING)
    made = client.add_endpoint(service.id, "logged")
    blob = server.upload("logs/x.csv", "x\n1\n")
    secrets = [server.connection["token"], made.primary_key, made.secondary_key, server.account.key]
    secrets += [re.search(r"sig=([^&]+)", blob.sas_token).group(1)]
    for secret in secrets:
        for target in (made.api_location + "/jobs", made.api_location + "/execute", server.url + "/nothing"):
            query = {"api-version": "2.0", "sig": secret}
            requests.post(target, params=query, data=b"{", headers={"Authorization": f"Bearer {secret}"}, timeout=30)
    requests.get(blob.url.replace("x.csv", "y.csv"), timeout=30)
    log = Path(server.log).read_text()
    assert "RequestBodyInvalid" in log
    for secret in secrets:
        assert secret not in log
        assert requests.utils.quote(secret, safe="") not in log
