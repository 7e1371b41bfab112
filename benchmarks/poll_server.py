"""A server over TLS that answers every poll with "still running", cheaply; it counts the polls of each kind.

``python -m benchmarks.poll_server PORT CERTIFICATE KEY``.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.protocol.jobs import Job, JobStatus
from airflow_provider_azureml_classic.protocol.values import Endpoint

SERVICE_ID = "0" * 32
#: End of the names under which the connections of a process are counted.
CONNECTIONS = ".connections"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key.

    :param folder: where to write them.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    none = serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none))
    return paths


def _response(data: Any) -> bytes:
    body = json.dumps(data).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Polls(asyncio.Protocol):
    """One connection.

    :param port: of this server.
    :param counts: polls by process, and connections that brought them, by process and ``CONNECTIONS``.
    """

    def __init__(self, port: int, counts: dict[str, int]) -> None:
        url = f"https://127.0.0.1:{port}/workspaces/{SERVICE_ID}/services/{SERVICE_ID}"
        endpoint = Endpoint("bench", SERVICE_ID, SERVICE_ID, api_location=url, primary_key="key", secondary_key="key")
        self._endpoint = _response(endpoint.to_wire())
        self._job = _response(Job(SERVICE_ID, JobStatus.RUNNING).to_wire())
        state = {"life_cycle_state": "RUNNING", "state_message": "", "result_state": ""}
        self._run = _response({"run_id": 1, "state": state})
        self._counts = counts
        self._buffer = b""
        self._known = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Answer whole requests; none has a body."""
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            self._transport.write(self._answer(head))

    def _answer(self, head: bytes) -> bytes:
        path = head.split(b" ", 2)[1]
        if path == b"/counts":
            return _response(self._counts)
        if path.startswith(b"/workspaces/"):
            # A job's id says which process waits for it; the first call of a process is for the endpoint.
            _, found, job = path.partition(b"/jobs/")
            if not found:
                return self._endpoint
            self._count(job[:6].decode())
            return self._job
        self._count("databricks")
        return self._run

    def _count(self, name: str) -> None:
        self._counts[name] = self._counts.get(name, 0) + 1
        if not self._known:
            self._known = True
            self._counts[name + CONNECTIONS] = self._counts.get(name + CONNECTIONS, 0) + 1


async def _serve(port: int, chain: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    counts: dict[str, int] = {}
    server = await asyncio.get_running_loop().create_server(
        lambda: Polls(port, counts), "127.0.0.1", port, ssl=context, backlog=4096
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
