"""Charts as SVG: bars, and lines over two logarithmic axes. Readable on a light and on a dark page."""

from __future__ import annotations

import math
from html import escape
from typing import Any

_WIDTH = 720
_LEFT, _RIGHT = 230, 90
_STYLE = """<style>
text { font: 14px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 } .small { font-size: 12px; fill: #57606a }
.ours { fill: #0969da } .other { fill: #afb8c1 } .axis { stroke: #d0d7de }
.l0 { stroke: #0969da; fill: #0969da } .l1 { stroke: #bc4c00; fill: #bc4c00 } .l2 { stroke: #1a7f37; fill: #1a7f37 }
.l3 { stroke: #8250df; fill: #8250df } .l4 { stroke: #bf3989; fill: #bf3989 } .l5 { stroke: #7d4e00; fill: #7d4e00 }
polyline { fill: none; stroke-width: 2 } text.key { stroke: none }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } .axis { stroke: #3d444d }
  .ours { fill: #4493f8 } .other { fill: #656c76 } .l0 { stroke: #4493f8; fill: #4493f8 }
  .l1 { stroke: #f0883e; fill: #f0883e } .l2 { stroke: #3fb950; fill: #3fb950 } .l3 { stroke: #ab7df8; fill: #ab7df8 }
  .l4 { stroke: #db61a2; fill: #db61a2 } .l5 { stroke: #d29922; fill: #d29922 }
}
polyline.l0, polyline.l1, polyline.l2, polyline.l3, polyline.l4, polyline.l5 { fill: none }
</style>"""


def svg(chart: dict[str, Any]) -> str:
    """The chart as a document.

    :param chart: ``kind`` (``bars`` or ``lines``), ``title``, and what is drawn.
    """
    height, parts = (_bars if chart["kind"] == "bars" else _lines)(chart)
    title = escape(chart["title"])
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{title}">'
    return "\n".join([head, _STYLE, f'<text class="title" x="10" y="22">{title}</text>', *parts, "</svg>", ""])


def number(value: float) -> str:
    """A number of three digits.

    :param value: not negative.
    """
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _bars(chart: dict[str, Any]) -> tuple[int, list[str]]:
    bars: list[tuple[str, float]] = chart["bars"]
    widest = max(value for _, value in bars) or 1.0
    parts = []
    for position, (name, value) in enumerate(bars):
        y = 40 + position * 28
        width = max(1.0, value / widest * (_WIDTH - _LEFT - _RIGHT))
        kind = "ours" if name == chart["ours"] else "other"
        parts += [
            f'<text x="{_LEFT - 10}" y="{y + 15}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="20" rx="2"/>',
            f'<text x="{_LEFT + width + 6:.1f}" y="{y + 15}">{number(value)}</text>',
        ]
    return 50 + len(bars) * 28, parts


def _lines(chart: dict[str, Any]) -> tuple[int, list[str]]:
    lines: dict[str, list[list[float]]] = chart["lines"]
    points = [point for line in lines.values() for point in line]
    across, up = (sorted({math.log10(max(point[i], 1e-9)) for point in points}) for i in (0, 1))
    low, high = math.floor(up[0]), max(math.ceil(up[-1]), math.floor(up[0]) + 1)
    left, top, width, height = 60, 40, _WIDTH - 60 - 200, 260

    def place(point: list[float]) -> tuple[float, float]:
        x = (math.log10(point[0]) - across[0]) / ((across[-1] - across[0]) or 1)
        y = (math.log10(max(point[1], 1e-9)) - low) / (high - low)
        return left + x * width, top + height - y * height

    parts = []
    for power in range(low, high + 1):
        y = place([10 ** across[0], 10.0**power])[1]
        parts.append(f'<line class="axis" x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="small" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for value in sorted({point[0] for point in points}):
        x = place([value, 10.0**low])[0]
        parts.append(
            f'<text class="small" x="{x:.1f}" y="{top + height + 18}" text-anchor="middle">{value:,.0f}</text>'
        )
    taken: list[float] = []
    for index, (name, line) in sorted(enumerate(lines.items()), key=lambda item: place(item[1][1][-1])[1]):
        placed = [place(point) for point in line]
        y = max([placed[-1][1] + 4, *(one + 16 for one in taken[-1:])])
        taken.append(y)
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline class="l{index % 6}" points="{joined}"/>')
        parts += [f'<circle class="l{index % 6}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in placed]
        parts.append(f'<text class="key l{index % 6}" x="{placed[-1][0] + 8:.1f}" y="{y:.1f}">{escape(name)}</text>')
    return top + height + 30, parts
