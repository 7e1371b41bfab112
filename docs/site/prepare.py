"""Gathers the pages of the documentation site in .site/pages: the guides, and a reference made from the code.

Guides are written for readers of the repository. What Markdown means there and not to MkDocs is rewritten: lists
without an empty line before them, and links to files that are no pages.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from airflow_provider_azureml_classic import operators
from airflow_provider_azureml_classic.cli.arguments import parser as commands
from airflow_provider_azureml_classic.server import quickstart
from airflow_provider_azureml_classic.server.models import backup
from airflow_provider_azureml_classic.server.settings.options import parser as server

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / ".site" / "pages"
_PACKAGE = "airflow_provider_azureml_classic"
#: Files of the repository that links lead to, by folder: the page that shows them.
_SHOWN = {"dags": "reference/dags.md", "deploy": "reference/deploy.md"}
_ITEM = re.compile(r"(\* |- |\d+\. )")
_LINK = re.compile(r"\]\((?!https?:|#)([^)\s]+)\)")
#: Pages of the reference: title, and modules whose public members they show.
_MODULES = {
    "waiting": ("Sensors, triggers, watchers", ("sensors", "triggers", "watchers")),
    "airflow": ("Hook, assets, notifications", ("hooks", "assets", "notifications")),
    "client": ("Client", ("client.blocking", "client.aio", "client.verbs")),
    "exceptions": ("Errors", ("exceptions",)),
}


def page(path: Path) -> str:
    """A Markdown file as a page of the site.

    :param path: in the repository.
    """
    lines, fence, before = list[str](), False, ""
    for line in path.read_text().splitlines():
        if line.startswith("```"):
            fence = not fence
        elif not fence:
            # A list needs an empty line before it, and four blanks for what belongs to a numbered item.
            starts = _ITEM.match(line) and before.strip() and not _ITEM.match(before) and not before.startswith(" ")
            lines += [""] if starts else []
            line = (
                f" {line}"
                if re.match(r" {3}\S", line) or (line.startswith("   ") and before.startswith("    "))
                else line
            )
        lines.append(line)
        before = line
    return _LINK.sub(lambda link: f"]({_target(path, link[1])})", "\n".join(lines)) + "\n"


def _target(path: Path, link: str) -> str:
    """Where a link of a page leads on the site."""
    name, mark, anchor = link.partition("#")
    if not name:
        return link
    to = (path.parent / name).resolve().relative_to(ROOT)
    if to.parts[0] == "docs":
        return f"{to.relative_to('docs')}{mark}{anchor}"
    if to.parts[0] in _SHOWN:
        return f"{_SHOWN[to.parts[0]]}#{to.name.replace('.', '').lower()}"
    return f"{to}{mark}{anchor}"


def shown(folder: str, title: str) -> str:
    """A page with the files of a folder.

    :param folder: in the repository.
    :param title: of the page.
    """
    parts = [f"# {title}\n"]
    for path in sorted((ROOT / folder).iterdir()):
        if path.is_file() and not path.name.startswith((".", "_")):
            language = {".py": "python", ".yaml": "yaml", ".json": "json", ".sql": "sql"}.get(path.suffix, "text")
            parts.append(f"## {path.name}\n\n```{language}\n{path.read_text().rstrip()}\n```\n")
    return "\n".join(parts)


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A command and all below it, those that do something."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in below:
        for each in dict.fromkeys(action.choices.values()):
            yield from _parsers(each)
    if not below:
        yield parser


def command_line() -> str:
    """A page with what each command says of itself."""
    parts = ["# Commands\n"]
    for title, one in (("azureml-classic", commands()), ("azureml-classic-server", server())):
        parts.append(f"## {title}\n")
        every = [*_parsers(one)]
        if title.endswith("server"):
            every += [quickstart.parser(), *_parsers(backup.parser())]
        for each in every:
            each.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=100)
            parts.append(f"### {each.prog}\n\n```text\n{each.format_help().rstrip()}\n```\n")
    return "\n".join(parts)


def main() -> None:
    """Write all pages anew."""
    shutil.rmtree(PAGES, ignore_errors=True)
    (PAGES / "reference").mkdir(parents=True)
    shutil.copytree(ROOT / "docs" / "images", PAGES / "images")
    for path in [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]:
        (PAGES / path.name).write_text(page(path))
    reference = {"commands": command_line(), "dags": shown("dags", "Example DAGs")}
    reference["deploy"] = shown("deploy", "Compose file and Grafana board")
    names = sorted(operators.__all__)
    reference["operators"] = "# Operators\n\n" + "\n".join(f"::: {_PACKAGE}.operators.{name}\n" for name in names)
    for name, (title, modules) in _MODULES.items():
        reference[name] = f"# {title}\n\n" + "\n".join(f"::: {_PACKAGE}.{module}\n" for module in modules)
    for name, text in reference.items():
        (PAGES / "reference" / f"{name}.md").write_text(text)


if __name__ == "__main__":
    main()
