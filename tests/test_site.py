"""The documentation site, as far as it can be looked at without what builds it: ``make site``."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.support import ROOT

SITE = ROOT / "docs" / "site"
# Both programs are imported with all that they need.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepare() -> ModuleType:
    """The script that gathers the pages."""
    spec = importlib.util.spec_from_file_location("prepare", SITE / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_has_a_place_and_every_link_an_end(
    prepare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pages are in the navigation, which names no others, and links and pictures lead to what is there."""
    monkeypatch.setattr(prepare, "PAGES", tmp_path)
    prepare.main()
    pages = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*.md")}
    navigation = (SITE / "mkdocs.yml").read_text().partition("\nnav:")[2]
    assert sorted(re.findall(r"[\w./-]+\.md", navigation)) == sorted(pages)
    for name, path in pages.items():
        for link in prepare._LINK.findall(path.read_text()):
            assert (path.parent / link.partition("#")[0]).exists(), (name, link)


def test_the_reference_has_every_command(prepare: ModuleType) -> None:
    """Each command and each option of both programs stands on its page."""
    text = prepare.command_line()
    for name in ("train", "endpoints update", "jobs submit", "login"):
        assert f"### azureml-classic {name}\n" in text
    for name in ("azureml-classic-server quickstart", "azureml-classic-server backup", "--open-metrics"):
        assert name in text


def test_lists_are_lists_for_both_readers(prepare: ModuleType, tmp_path: Path) -> None:
    """An empty line comes before a list, and what belongs to a numbered item is four blanks in; code stays as it is."""
    text = "Text:\n* one\n  more\n* two\n\n1. first\n\n   ```ini\n   a = 1\n   ```\n\n```text\nx\n* y\n```\n"
    file = tmp_path / "x.md"
    file.write_text(text)
    page = prepare.page(file)
    assert page.startswith("Text:\n\n* one\n  more\n* two\n\n1. first\n\n    ```ini\n    a = 1\n    ```\n")
    assert "x\n* y\n" in page
