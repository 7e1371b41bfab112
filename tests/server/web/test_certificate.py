"""TLS: answered with the certificate that was given, and with a renewed one soon after its files changed."""

from __future__ import annotations

import shutil
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_provider_azureml_classic.server.__main__ import USAGE, main
from airflow_provider_azureml_classic.server.web.certificate import Certificate, Renewal
from tests.support import ServerProcess


def write_pair(folder: Path, name: str, password: bytes | None = None) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    chain, private = folder / f"{name}.crt", folder / f"{name}.key"
    chain.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    content = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    private.write_bytes(content)
    return chain, private


def served(context: ssl.SSLContext) -> str:
    """The name in the certificate that a new connection is shown."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(5):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = x509.load_der_x509_certificate(client.getpeercert(binary_form=True) or b"")
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def test_a_renewed_certificate_is_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """To new connections; half a renewal, or damaged files, leave the one before, until both fit."""
    chain, key = write_pair(tmp_path, "first")
    second = write_pair(tmp_path, "second")
    certificate = Certificate(chain, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    renewal = Renewal(certificate, context)
    renewal.poll()
    assert served(context) == "first"
    shutil.copyfile(second[0], chain)
    renewal.poll()
    assert served(context) == "first"
    assert "stays as it is" in caplog.text
    shutil.copyfile(second[1], key)
    renewal.poll()
    assert served(context) == "second"
    key.unlink()
    renewal.poll()
    assert served(context) == "second"


@pytest.mark.parametrize("fault", ["absent", "other key", "password", "no pem", "one alone"])
def test_what_cannot_be_served_ends_the_start(tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names both files and says what they must be; nothing waits for a password."""
    chain, key = write_pair(tmp_path, "first", b"secret" if fault == "password" else None)
    if fault == "absent":
        key.unlink()
    elif fault == "other key":
        _, key = write_pair(tmp_path, "second")
    elif fault == "no pem":
        chain.write_text("certificate")
    words = ["--tls-cert", str(chain)] + ([] if fault == "one alone" else ["--tls-key", str(key)])
    assert main(["--data-dir", str(tmp_path / "data"), "--port", "0", *words, "--check-config"]) == USAGE
    said = capsys.readouterr().err
    assert "--tls-cert" in said
    assert "--tls-key" in said


@pytest.mark.slow
def test_a_server_over_tls(tmp_path: Path) -> None:
    """It hands out https addresses and answers there; who speaks plain HTTP gets no answer."""
    chain, key = write_pair(tmp_path, "first")
    server = ServerProcess(tmp_path / "data", "--tls-cert", str(chain), "--tls-key", str(key))
    try:
        assert server.url.startswith("https://127.0.0.1:")
        with server.client(verify=False) as client, pytest.warns(match="Unverified"):
            assert client.list_web_services()
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as plain:
            plain.settimeout(10)
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert not plain.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        assert server.stop() == 0
