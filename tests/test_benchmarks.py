"""The benchmarks' own parts: what they count, draw and write into the documentation."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import charts, load, report
from benchmarks.common import Figure, Result, interleaved, median, spread
from tests.support import ROOT

RESULTS = report.results()


@pytest.mark.parametrize(("aim", "ratio", "met"), [(">= 8", 8.0, True), (">= 8", 7.9, False), ("<= 1", 1.1, False)])
def test_an_aim_is_met_or_not(aim: str, ratio: float, met: bool) -> None:
    """The sign says which side is good."""
    assert Figure("a", "", "", ratio, aim).met is met


def test_rounds_alternate() -> None:
    """Every second round goes the other way, so that a drift cancels out."""
    order: list[str] = []
    found = interleaved(2, {name: lambda name=name: order.append(name) or 1.0 for name in ("a", "b")})
    assert order == ["a", "b", "b", "a"]
    assert found == {"a": [1.0, 1.0], "b": [1.0, 1.0]}
    assert (median([1, 5, 2]), spread([1, 2, 3])) == (2, 1)


@pytest.mark.parametrize(
    "chart",
    [
        {"kind": "bars", "title": "a < b", "bars": [["us & them", 10.0], ["ours", 0.0]], "ours": "ours"},
        {"kind": "lines", "title": "a", "lines": {"x": [[1, 0.5], [1000, 0.5]], "y": [[1, 0.1], [1000, 90]]}},
        {"kind": "lines", "title": "a", "lines": {"x": [[10, 1.0]]}},
    ],
)
def test_a_chart_is_a_document(chart: dict[str, object]) -> None:
    """Well-formed, every name in it, every coordinate a number within the drawing."""
    drawn = ElementTree.fromstring(charts.svg(chart))  # noqa: S314 - our own
    _, _, width, height = map(float, drawn.attrib["viewBox"].split())
    for shape in drawn.iter():
        for name, limit in (("x", width), ("cx", width), ("y", height), ("cy", height)):
            assert 0 <= float(shape.attrib.get(name, 0)) <= limit, shape.attrib
    said = " ".join(text.text or "" for text in drawn.iter("{http://www.w3.org/2000/svg}text"))
    names = [name for name, _ in chart["bars"]] if "bars" in chart else list(chart["lines"])  # type: ignore[call-overload]
    assert all(name in said for name in [chart["title"], *names])


@pytest.mark.slow
async def test_the_generator_counts_answers_and_errors(tmp_path: Path) -> None:
    """Every answer is counted once, and every second one is bad."""
    answered = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        while (await reader.readexactly(len(call)))[:4] == b"POST":
            status = b"200 OK" if answered % 2 == 0 else b"503 Busy"
            answered += 1
            writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 2\r\n\r\n{}")

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    call = f"POST /score HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 4\r\n\r\nbody".encode()
    (tmp_path / "body").write_bytes(b"body")
    words = [sys.executable, "-m", "benchmarks.load", f"http://127.0.0.1:{port}/score", str(tmp_path / "body"), "{}"]
    done = await asyncio.create_subprocess_exec(
        *words, "1", "0.3", cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    found = json.loads((await done.communicate())[1])
    server.close()
    assert found["requests"] in (answered, answered - 1)
    assert found["requests"] > 0
    assert abs(found["bad"] - found["requests"] / 2) <= 1


def test_a_whole_answer_is_recognized() -> None:
    """By its length, or by its last chunk."""
    assert load._is_whole(b"http/1.1 200 ok\r\ncontent-length: 3", b"abc")
    assert not load._is_whole(b"http/1.1 200 ok\r\ncontent-length: 3", b"ab")
    assert load._is_whole(b"http/1.1 200 ok\r\ntransfer-encoding: chunked", b"1\r\na\r\n0\r\n\r\n")


def test_a_result_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a row measured is what the page says."""
    monkeypatch.setattr("benchmarks.common.RESULTS", tmp_path)
    chart = {"kind": "bars", "title": "t", "bars": [["a", 1.0]], "ours": "a"}
    Result("x", "X", [Figure("swap", "1 s", "2 s", 0.5, "<= 0.4")], ["a"], [[1]], "Noise.", ["Note."], chart).save(3)
    found = [json.loads((tmp_path / "x.json").read_text())]
    parts = [f"[//]: # ({name})\n\nold\n[//]: # (end)\n\n" for name in ("machine", "figures", "sections")]
    page = "".join(parts)
    made = report.renewed(page, found)
    assert "| swap | 1 s | 2 s | 0.5 x | <= 0.4 | **not met** |" in made
    assert "old" not in made
    assert "Note. Noise." in made
    assert report.renewed(made, found) == made


def test_the_page_says_what_was_measured() -> None:
    """Figures and charts of the documentation are those of the files beside the benchmarks."""
    page = report.PAGE.read_text()
    assert report.renewed(page, RESULTS) == page
    for result in RESULTS:
        assert (report.IMAGES / f"bench-{result['row']}.svg").read_text() == charts.svg(result["chart"])
