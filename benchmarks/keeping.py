"""What it costs a scoring call that its endpoint keeps calls: ``python -m benchmarks.keeping``.

One server, two endpoints with the same model, of which one keeps its last 1,000 calls. They are asked by turns, in
another order each round, over 16 connections; what counts is the processor's time of the server, all its threads.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
ROUNDS, CONNECTIONS, TURNS = 300, 16, 20


def server_seconds(process: int) -> float:
    """Seconds of a processor that all threads of a process have had."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


class Caller:
    """Connections to one endpoint.

    :param address: its ``ApiLocation``.
    :param key: its key.
    """

    def __init__(self, address: str, key: str) -> None:
        parts = urlsplit(address)
        self.sockets = [
            socket.create_connection((str(parts.hostname), int(parts.port or 80))) for _ in range(CONNECTIONS)
        ]
        body = json.dumps({"Inputs": {"input1": [PERSON]}, "GlobalParameters": {}}).encode()
        head = f"POST {parts.path}/execute?api-version=2.0 HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        self.request = f"{head}Authorization: Bearer {key}\r\n\r\n".encode() + body

    def ask(self) -> None:
        """One call on each connection, at once."""
        for one in self.sockets:
            one.sendall(self.request)
        for one in self.sockets:
            answer = b""
            while not answer.endswith(b"}"):
                answer += one.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200"), answer[:200]


PERSON = {
    "age": 39, "workclass": "Private", "fnlwgt": 77516, "education": "Bachelors", "education-num": 13,
    "marital-status": "Never-married", "occupation": "Sales", "relationship": "Not-in-family", "race": "White",
    "sex": "Male", "capital-gain": 2174, "capital-loss": 0, "hours-per-week": 40, "native-country": "United-States",
}  # fmt: skip


def main() -> None:
    """Measure and print."""
    sys.path.insert(0, str(ROOT))
    from airflow_provider_azureml_classic.protocol.values import EndpointSettings, ThrottleLevel
    from tests.support import CENSUS_SCORING, ServerProcess
    from tests.support.portal import keep_calls

    many = EndpointSettings(throttle_level=ThrottleLevel.HIGH, max_concurrent_calls=200)

    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(Path(folder) / "data", "--workers", "1")
        try:
            with server.client() as client:
                service = client.find_web_service(CENSUS_SCORING).id
                plain, keeping = (client.add_endpoint(service, name, many) for name in ("plain", "keeping"))
                keep_calls(server, keeping, 1000)
            callers = [Caller(one.api_location, one.primary_key) for one in (plain, keeping)]
            costs: list[list[float]] = [[], []]
            for number in range(ROUNDS + 10):
                for which in (0, 1) if number % 2 else (1, 0):
                    before = server_seconds(server.process.pid)
                    for _ in range(TURNS):
                        callers[which].ask()
                    if number >= 10:
                        costs[which].append(server_seconds(server.process.pid) - before)
        finally:
            server.stop()
    calls = CONNECTIONS * TURNS
    each = [median(some) / calls * 1e6 for some in costs]
    total = sum(costs[1]) / sum(costs[0]) - 1
    print(f"{ROUNDS} rounds of {calls} calls each: {each[0]:.1f} us a call without, {each[1]:.1f} us with kept calls: "
          f"{each[1] / each[0] - 1:+.1%} (medians), {total:+.1%} (sums)")  # fmt: skip


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
