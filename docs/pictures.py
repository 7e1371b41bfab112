"""Draws docs/images/architecture.svg, and docs/images/demo.svg from a run of the demo: ``make pictures``.

The second one is a recording: the lines that ``make demo`` prints, each at the time at which it came.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path

IMAGES = Path(__file__).with_name("images")
_FONT = "font-family='ui-sans-serif, system-ui, Helvetica, Arial, sans-serif'"
_MONO = "font-family='ui-monospace, Menlo, Consolas, monospace'"
_INK, _SOFT, _LINE, _AIRFLOW, _SERVER = "#1f2937", "#6b7280", "#94a3b8", "#e0f2fe", "#fce7f3"
#: Begins the part that a recording leaves out.
_AFTERWARDS = "Where to look next"
#: Seconds that the finished recording stands still, and the most that passes between two lines.
_STILL, _LONGEST_PAUSE = 8.0, 2.5
_ROW, _LETTER, _MARGIN = 19, 8.1, 16


def box(x: int, y: int, width: int, height: int, fill: str, title: str, *lines: str) -> str:
    """A box with a title and lines below it.

    :param x: left edge.
    :param y: upper edge.
    :param width: in pixels, like all of these.
    :param height: of the box.
    :param fill: its colour.
    :param title: first line.
    :param lines: further ones, smaller.
    """
    middle, top = x + width / 2, y + height / 2 - 8 * len(lines) + 5
    texts = [f"<text x='{middle}' y='{top}' text-anchor='middle' font-size='15' fill='{_INK}'>{escape(title)}</text>"]
    texts += [
        f"<text x='{middle}' y='{top + 18 * (n + 1)}' text-anchor='middle' font-size='12' fill='{_SOFT}'>"
        f"{escape(line)}</text>"
        for n, line in enumerate(lines)
    ]
    return f"<rect x='{x}' y='{y}' width='{width}' height='{height}' rx='8' fill='{fill}' stroke='{_LINE}'/>" + "".join(
        texts
    )


def arrow(points: Sequence[tuple[int, int]], label: str = "", at: tuple[int, int] | None = None) -> str:
    """An arrow along some points.

    :param points: from its start to its head.
    :param label: what stands beside it.
    :param at: where.
    """
    path = " ".join(f"{x},{y}" for x, y in points)
    text = f"<text x='{at[0]}' y='{at[1]}' font-size='12' fill='{_SOFT}'>{escape(label)}</text>" if at else ""
    return f"<polyline points='{path}' fill='none' stroke='{_SOFT}' stroke-width='1.5' marker-end='url(#head)'/>{text}"


def architecture() -> str:
    """The two halves of the package, and what goes between them."""
    head = (
        "<defs><marker id='head' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='8' markerHeight='8' orient='auto'>"
        f"<path d='M0,0 L8,4 L0,8 z' fill='{_SOFT}'/></marker></defs>"
    )
    frames = "".join(
        f"<rect x='20' y='{y}' width='900' height='{height}' rx='12' fill='{fill}' stroke='none'/>"
        f"<text x='{left}' y='{y + 26}' font-size='14' font-weight='600' fill='{_INK}'>{escape(title)}</text>"
        for y, height, fill, left, title in (
            (20, 130, _AIRFLOW, 36, "Airflow with the provider: one DAG run for each day and model"),
            (230, 160, _SERVER, 216, "azureml-classic-server"),
        )
    )
    steps = ("upload", "train", "compare", "put live", "wait until fresh")
    boxes = [box(40 + 176 * n, 64, 144, 60, "white", step) for n, step in enumerate(steps)]
    boxes += [
        box(40, 284, 144, 76, "white", "blob store", "data and models,", "by date"),
        box(392, 284, 144, 76, "white", "training", "batch jobs,", "scikit-learn to ONNX"),
        box(
            568,
            284,
            320,
            76,
            "white",
            "scoring",
            "thousands of endpoints, each with a model,",
            "keys and a history of its own",
        ),
        box(568, 440, 320, 52, "white", "your programs", "rows with an endpoint's key"),
    ]
    arrows = [arrow([(184 + 176 * n, 94), (216 + 176 * n, 94)]) for n in range(4)]
    arrows += [
        arrow([(112, 124), (112, 284)], "new data", (120, 196)),
        arrow([(288, 124), (288, 200), (440, 200), (440, 284)], "job", (410, 192)),
        arrow([(640, 124), (640, 284)], "PATCH, then proof", (648, 196)),
        arrow([(184, 310), (392, 310)], "reads", (270, 302)),
        arrow([(392, 336), (184, 336)], "model and evaluation", (226, 354)),
        arrow([(728, 440), (728, 360)], "", None),
    ]
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 940 510' {_FONT} role='img' "
        "aria-label='Airflow uploads data, trains, compares and puts the model live on the server, whose endpoints "
        f"your programs call'>{head}<rect width='940' height='510' fill='white'/>"
        f"{frames}{''.join(boxes)}{''.join(arrows)}</svg>\n"
    )


def recorded(command: Sequence[str]) -> list[tuple[float, str]]:
    """The lines that a command prints, with the seconds after which each came.

    :param command: what to run.
    """
    start, lines = time.monotonic(), list[tuple[float, str]]()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own demo
        for line in process.stdout or ():
            lines.append((time.monotonic() - start, line.rstrip()))
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}.")
    return lines


def recording(lines: Sequence[tuple[float, str]]) -> str:
    """An SVG in which the lines appear one after another, again and again.

    :param lines: see :func:`recorded`; long pauses are cut.
    """
    moments, now, before = list[float](), 0.6, 0.0
    for at, _ in lines:
        now += min(at - before, _LONGEST_PAUSE)
        before = at
        moments.append(now)
    total = now + _STILL
    width = round(max(len(line) for _, line in lines) * _LETTER + 2 * _MARGIN)
    height = len(lines) * _ROW + 2 * _MARGIN + _ROW
    rules, texts = list[str](), list[str]()
    for number, ((_, line), moment) in enumerate(zip(lines, moments, strict=True)):
        share = 100 * moment / total
        rules.append(f"@keyframes l{number}{{0%,{share:.2f}%{{opacity:0}}{share + 0.01:.2f}%,100%{{opacity:1}}}}")
        y = _MARGIN + _ROW * (number + 2)
        style = f"animation:l{number} {total:.1f}s linear infinite"
        texts.append(f"<text x='{_MARGIN}' y='{y}' style='{style}'>{escape(line)}</text>")
    # Whoever wants no motion sees the end.
    still = "@media (prefers-reduced-motion: reduce){text{animation:none !important}}"
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' {_MONO} font-size='13' fill='#e5e7eb' "
        f"role='img' aria-label='Recording of make demo'><style>{''.join(rules)}{still}text{{white-space:pre}}</style>"
        f"<rect width='{width}' height='{height}' rx='8' fill='#111827'/>"
        f"<text x='{_MARGIN}' y='{_MARGIN + _ROW}' fill='#86efac'>$ make demo</text>{''.join(texts)}</svg>\n"
    )


def main() -> None:
    """Draw both."""
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / "architecture.svg").write_text(architecture())
    if "--without-demo" not in sys.argv[1:]:
        lines = recorded([sys.executable, "-u", "-m", "demo"])
        # What follows names folders of this machine.
        end = next(number for number, (_, line) in enumerate(lines) if line.startswith(_AFTERWARDS))
        (IMAGES / "demo.svg").write_text(recording(lines[:end]))
        print("\n".join(line for _, line in lines))


if __name__ == "__main__":
    main()
