"""Services that a person has logged in to: ``~/.config/azureml-classic/config.toml``.

Rule: the file holds tokens, so nobody else may read it; one that others can read is refused, as ssh does.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.exceptions import cause
from airflow_provider_azureml_classic.protocol.messages import read_toml

#: Members of a profile, and whether each must be there.
MEMBERS = {"url": True, "workspace": True, "token": True, "storage_connection_string": False}
#: The profile of those who have one only.
DEFAULT = "default"
#: Most bytes of the file: thousands of profiles.
_MAX_BYTES = 1 << 20


def config_path(environ: Mapping[str, str]) -> Path:
    """Where the profiles are kept.

    :param environ: ``XDG_CONFIG_HOME`` goes before ``~/.config``.
    :raises ValueError: neither is there: the user of the process has no home folder.
    """
    base = environ.get("XDG_CONFIG_HOME", "").strip()
    try:
        return (Path(base) if base else Path.home() / ".config") / "azureml-classic" / "config.toml"
    except RuntimeError:
        raise ValueError(
            "This user has no home folder, so no profiles are kept: set XDG_CONFIG_HOME to a folder of yours, or name "
            "the service by --connection, --conn-id, or AZUREML_CLASSIC_URL with its workspace and token."
        ) from None


def load(path: Path) -> dict[str, dict[str, str]]:
    """The profiles by name; none where there is no file.

    :param path: of the file.
    :raises ValueError: it cannot be read, is not private, or holds something that is not a profile.
    """
    try:
        with path.open("rb") as file:
            mode, content = os.fstat(file.fileno()).st_mode, file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ValueError(f"{path} holds tokens and may be read by others: run `chmod 600 {path}`.")
    try:
        document = read_toml(content, _MAX_BYTES)
    except ValueError as error:
        raise ValueError(f"{path} is not TOML: {cause(error)}.") from None
    if set(document) - {"profiles"} or not isinstance(document.get("profiles", {}), dict):
        raise ValueError(f"{path} must hold tables [profiles.NAME] and nothing else.")
    return {name: _profile(path, name, value) for name, value in document.get("profiles", {}).items()}


def _profile(path: Path, name: str, value: Any) -> dict[str, str]:
    members = dict(value) if isinstance(value, dict) else {}
    wrong = sorted(set(members) - set(MEMBERS)) + [key for key, member in members.items() if not _is_text(member)]
    missing = [key for key, required in MEMBERS.items() if required and key not in members]
    if wrong or missing:
        fault = f"{wrong[0]!r} is unknown or not a text" if wrong else f"{missing[0]!r} is missing"
        raise ValueError(f"{path}, profile {name!r}: {fault}; a profile has the texts {', '.join(MEMBERS)}.")
    return members


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def save(path: Path, profiles: Mapping[str, Mapping[str, str]]) -> None:
    """Write the profiles, for the owner alone; the file is the old one or the new one at any moment.

    Comments in the file are lost.

    :param path: of the file.
    :param profiles: all of them.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    blocks = (
        "\n".join([f"[profiles.{_quoted(name)}]", *(f"{key} = {_quoted(value)}" for key, value in profile.items())])
        for name, profile in profiles.items()
    )
    # Made with mode 0600.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".config-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write("\n\n".join(blocks) + "\n")
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


def _quoted(text: str) -> str:
    # A JSON string is a basic string of TOML, except for this one letter.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
