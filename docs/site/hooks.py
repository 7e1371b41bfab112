"""What MkDocs does besides with a page: roles of docstrings become the name that they are about."""

from __future__ import annotations

import re
from typing import Any

_ROLE = re.compile(r":(?:class|meth|func|attr|data|exc|mod):<code>(~?)\.*([^<]*)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """The page without roles.

    :param html: the page.
    """
    return _ROLE.sub(lambda role: f"<code>{role[2].rpartition('.')[2] if role[1] else role[2]}</code>", html)
