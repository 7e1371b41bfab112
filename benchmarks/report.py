"""``python -m benchmarks.report``: figures and charts of docs/benchmarks.md, from the JSON of the last run."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from benchmarks.__main__ import ROWS
from benchmarks.charts import svg
from benchmarks.common import RESULTS, ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
IMAGES = ROOT / "docs" / "images"


def results() -> list[dict[str, Any]]:
    """What was measured, in the order of the rows."""
    paths = [RESULTS / f"{row}.json" for row in ROWS]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def figures(found: list[dict[str, Any]]) -> str:
    """A table row for each figure.

    :param found: see :func:`results`.
    """
    lines = ["| figure | ours | baseline in the same run | ratio | aim | |\n|---|---|---|---|---|---|\n"]
    for result in found:
        for figure in result["figures"]:
            met = {None: "", True: "met", False: "**not met**"}[figure["met"]]
            cells = (figure["name"], figure["ours"], figure["baseline"], f"{figure['ratio']:.3g} x", figure["aim"], met)
            lines.append("| " + " | ".join(cells) + " |\n")
    return "".join(lines)


def sections(found: list[dict[str, Any]]) -> str:
    """Chart and notes of each row.

    :param found: see :func:`results`.
    """
    parts = []
    for result in found:
        notes = " ".join(filter(None, (*result["notes"], result["noise"])))
        title, row = result["title"], result["row"]
        said = f"**{title}** ({result['measured']}, {result['seconds']} s). {notes}"
        parts.append(f"{said}\n![{result['chart']['title']}](images/bench-{row}.svg)\n")
    return "\n".join(parts)


def machine(found: list[dict[str, Any]]) -> str:
    """One sentence on the machine.

    :param found: see :func:`results`.
    """
    if not found:
        return "Nothing is measured on this version yet: `make bench` fills this page in.\n"
    said = found[0]["machine"]
    loads = [result["machine"]["load"] for result in found]
    return (
        f"Measured on {said['cores']} cores ({said['processor']}), {said['memory']}, {said['system']}, Python "
        f"{said['python']}; load average {min(loads)} to {max(loads)} at the ends of the rows.\n"
    )


def renewed(page: str, found: list[dict[str, Any]]) -> str:
    """The page with its generated parts made anew.

    :param page: Markdown with the invisible lines ``[//]: # (machine)`` and the like, each closed by ``[//]: # (end)``.
    :param found: see :func:`results`.
    """
    for name, text in (("machine", machine(found)), ("figures", figures(found)), ("sections", sections(found))):
        pattern = rf"(\[//\]: # \({name}\)\n\n).*?(\[//\]: # \(end\))"
        page = re.sub(pattern, lambda part, text=text: f"{part[1]}{text}\n{part[2]}", page, flags=re.S)
    return page


def main() -> int:
    """Renew page and charts; returns the exit status."""
    found = results()
    if not found:
        print("There are no results yet: run `make bench`.", file=sys.stderr)
        return 1
    IMAGES.mkdir(exist_ok=True)
    for result in found:
        (IMAGES / f"bench-{result['row']}.svg").write_text(svg(result["chart"]))
    PAGE.write_text(renewed(PAGE.read_text(), found))
    print(f"{PAGE.relative_to(ROOT)} and {len(found)} charts renewed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
