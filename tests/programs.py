"""Programs that some tests need besides Python."""

from __future__ import annotations

import os
import shutil

import pytest

#: Set where every test has to run: a missing program is a failure there, not a reason to skip.
VARIABLE = "REQUIRE_PROGRAMS"


def require_program(name: str, how_to_install: str) -> str:
    """Path of a program; skips the test where it is missing, or fails it where programs are required.

    :param name: of the program.
    :param how_to_install: what to do, for the reason.
    """
    found = shutil.which(name)
    if found:
        return found
    reason = f"{name} is missing: {how_to_install}"
    if os.environ.get(VARIABLE):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
