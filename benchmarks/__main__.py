"""``make bench``: all measurements, or those that are named; each prints its table and writes its JSON."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback

from benchmarks.common import RESULTS, say

#: In the order of the documentation; each is a module with a function ``run`` that returns a result.
ROWS = (
    "scoring",
    "swap",
    "jobs",
    "fleet",
    "waiting",
    "parsing",
    "footprint",
    "backfill",
    "growth",
    "reading",
    "training",
    "models",
    "tenants",
    "fleet_parts",
)
#: Won many times over, or long: measured only where something on their way changes.
BY_NAME = ("scoring", "swap", "waiting", "training", "models", "fleet_parts")


def main() -> int:
    """Run the measurements; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "rows",
        nargs="?",
        default="",
        help=f"comma-separated, of {', '.join(ROWS)}; all but {', '.join(BY_NAME)} by default",
    )
    parser.add_argument("--resume", action="store_true", help="leave out rows whose JSON is there")
    parser.add_argument("--days", type=int, default=12, help="intervals of the backfill (default: %(default)s)")
    given = parser.parse_args()
    rows = [row.strip() for row in given.rows.split(",") if row.strip()] or [row for row in ROWS if row not in BY_NAME]
    unknown = [row for row in rows if row not in ROWS]
    if unknown:
        parser.error(f"there is no {unknown[0]!r}; the rows are {', '.join(ROWS)}")
    if given.resume:
        rows = [row for row in rows if not (RESULTS / f"{row}.json").exists()]
    failed = [row for row in rows if not _measured(row, given.days)]
    print(
        f"\n{len(rows) - len(failed)} of {len(rows)} rows measured"
        + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    return 1 if failed else 0


def _measured(row: str, days: int) -> bool:
    print(f"\n== {row}", flush=True)
    start = time.monotonic()
    try:
        module = importlib.import_module(f"benchmarks.{row}")
        result = module.run(days) if row == "backfill" else module.run()
    except Exception:  # one row that fails must not take the others along
        traceback.print_exc()
        return False
    seconds = time.monotonic() - start
    result.save(seconds)
    result.show()
    say(f"{row} took {seconds:.0f} s")
    return True


if __name__ == "__main__":
    sys.exit(main())
