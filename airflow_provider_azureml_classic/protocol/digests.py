"""What identifies a model: not where it lies, but what it is.

Our addition. A service that does not tell is one whose models are known by their places alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Member of a resource and of a job's state.
DIGESTS = "ModelDigests"
_FILE, _CONTENT = "File", "Content"
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Digests:
    """The digests of a model, as far as they are known.

    :param file: SHA-256 of its file: what lies in the store.
    :param content: SHA-256 of its graph and schema: what answers. The same rows trained twice have the same one.
    """

    file: str | None = None
    content: str | None = None

    @classmethod
    def from_wire(cls, data: Any) -> Digests | None:
        """The digests that a service tells; ``None`` if it tells none that can be read.

        :param data: decoded JSON.
        """
        return cls._read(data, _FILE, _CONTENT)

    def to_wire(self) -> dict[str, str | None]:
        """Both members."""
        return {_FILE: self.file, _CONTENT: self.content}

    @classmethod
    def from_json(cls, data: Any) -> Digests | None:
        """The digests in what a task returned or remembered; those of earlier versions have none.

        :param data: with members ``sha256`` and ``content``.
        """
        return cls._read(data, "sha256", "content")

    def to_json(self) -> dict[str, str | None]:
        """For receipts, events and states of tasks."""
        return {"sha256": self.file, "content": self.content}

    @classmethod
    def _read(cls, data: Any, file: str, content: str) -> Digests | None:
        if not isinstance(data, Mapping):
            return None
        values = [data.get(name) for name in (file, content)]
        known = [value if isinstance(value, str) and _SHA256.fullmatch(value) else None for value in values]
        return cls(*known) if any(known) else None


def same_model(one: Digests | None, other: Digests | None) -> bool | None:
    """Whether two models answer alike, by their content, else by their files; ``None`` if that is not known.

    :param one: digests of a model.
    :param other: those of another.
    """
    if one is None or other is None:
        return None
    if one.content and other.content:
        return one.content == other.content
    # Two files may hold the same content: other files tell nothing.
    return True if one.file and one.file == other.file else None
