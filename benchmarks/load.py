"""Load: ``wrk`` where it is installed, else a generator of our own; each connection waits for its answer.

``python -m benchmarks.load`` is the second one, so that it runs on a core of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.common import pinned

_LUA = """
wrk.method = "POST"
wrk.body = io.open("%s", "rb"):read("*a")
%s
function done(summary, latency, requests)
  local bad = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write
  io.stderr:write(string.format('{"requests": %%d, "seconds": %%.6f, "bad": %%d, "p50": %%.4f, "p99": %%.4f}',
    summary.requests, summary.duration / 1e6, bad + summary.errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


@dataclass(frozen=True)
class Load:
    """What a server bore.

    :param rate: answers a second.
    :param p50: median latency in ms.
    :param p99: latency in ms that 99 of 100 answers did not exceed.
    :param bad: calls not answered with 2xx.
    """

    rate: float
    p50: float
    p99: float
    bad: int

    def __str__(self) -> str:
        return f"{self.rate:.0f}/s, p50 {self.p50:.1f} ms, p99 {self.p99:.1f} ms" + (
            f", {self.bad} bad" * bool(self.bad)
        )


def generator() -> str:
    """Name of the load generator that is used."""
    return "wrk" if shutil.which("wrk") else "benchmarks.load (Python)"


def press(
    url: str, body: Path, headers: Mapping[str, str], *, connections: int, seconds: float, core: int | None = 1
) -> Load:
    """Load a server.

    :param url: where to.
    :param body: file that holds the body of each call.
    :param headers: of each call.
    :param connections: kept open at a time.
    :param seconds: how long; `wrk` takes whole ones.
    :param core: the one core of the generator.
    """
    before = pinned(core) if core is not None else []
    if shutil.which("wrk"):
        lines = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items())
        script = body.with_suffix(f".{connections}.lua")
        script.write_text(_LUA % (body, lines))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"]
        command += ["-s", str(script), url]
    else:
        command = [sys.executable, "-m", "benchmarks.load", url, str(body), json.dumps(dict(headers))]
        command += [str(connections), str(seconds)]
    done = subprocess.run([*before, *command], capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:1])} failed: {done.stderr[-500:]}")
    found = json.loads(done.stderr.strip().splitlines()[-1])
    return Load(found["requests"] / found["seconds"], found["p50"], found["p99"], found["bad"])


class Connection(asyncio.Protocol):
    """One kept-open connection: sends a call as soon as the one before is answered.

    :param call: head and body, as bytes.
    :param latencies: collects seconds.
    :param bad: collects first lines of answers that are no 2xx.
    """

    def __init__(self, call: bytes, latencies: list[float], bad: list[bytes]) -> None:
        self._call, self._latencies, self._bad = call, latencies, bad
        self._buffer = b""
        self._sent = 0.0
        self.open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first call."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._call)

    def data_received(self, data: bytes) -> None:
        """Read an answer; when it is whole, send the next call."""
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found or not _is_whole(head.lower(), rest):
            return
        self._latencies.append(time.perf_counter() - self._sent)
        if head[9:10] != b"2":
            self._bad.append(head.partition(b"\r\n")[0])
        self._buffer = b""
        if self.open:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        """A connection that the server closed counts as an error."""
        if self.open:
            self._bad.append(b"closed")


def _is_whole(head: bytes, rest: bytes) -> bool:
    _, found, length = head.partition(b"content-length:")
    if found:
        return len(rest) >= int(length.partition(b"\r\n")[0])
    return rest.endswith(b"0\r\n\r\n")


async def _drive(url: str, body: bytes, headers: Mapping[str, str], connections: int, seconds: float) -> None:
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"POST {target} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
    head = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items())])
    latencies: list[float] = []
    bad: list[bytes] = []
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(
            lambda: Connection(f"{head}\r\n\r\n".encode() + body, latencies, bad), parts.hostname, parts.port
        )
        for _ in range(connections)
    ]
    latencies.clear()
    start = time.perf_counter()
    await asyncio.sleep(seconds)
    taken, found = time.perf_counter() - start, sorted(latencies)
    for transport, connection in made:
        connection.open = False
        transport.close()
    p50, p99 = (found[int(len(found) * share)] * 1000 for share in (0.5, 0.99)) if found else (0, 0)
    print(
        json.dumps({"requests": len(found), "seconds": taken, "bad": len(bad), "p50": p50, "p99": p99}), file=sys.stderr
    )


def main() -> None:
    """Run the generator of our own."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("url", "body", "headers", "connections", "seconds"):
        parser.add_argument(name)
    given = parser.parse_args()
    body = Path(given.body).read_bytes()
    asyncio.run(_drive(given.url, body, json.loads(given.headers), int(given.connections), float(given.seconds)))


if __name__ == "__main__":
    main()
