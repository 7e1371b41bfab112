"""What ``azureml-classic`` says of words, limits and addresses that are none, its help, and its lists; no server."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic.cli import __main__ as cli
from airflow_provider_azureml_classic.cli import profiles
from airflow_provider_azureml_classic.cli.access import Access
from airflow_provider_azureml_classic.cli.arguments import parser
from airflow_provider_azureml_classic.cli.endpoints import list_endpoints
from airflow_provider_azureml_classic.cli.help import EXAMPLES, GROUPS, parsers
from airflow_provider_azureml_classic.cli.output import Output
from airflow_provider_azureml_classic.cli.train import _rules
from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("endpoint list a", "'endpoint' is none of check"),
        ("endpoint list a", "Did you mean 'endpoints'?"),
        ("endpoints ad a b", "Did you mean 'add'?"),
        (
            "train a b c --put-live --max-wrse X=1",
            "unrecognized arguments: --max-wrse X=1. Did you mean '--max-worse'?",
        ),
        ("top -o jsn", "Did you mean 'json'?"),
        ("top --zzz", "unrecognized arguments: --zzz."),
    ],
)
def test_misspelt_words(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command, verb, option or choice that is none: the nearest is named, and the status is that of usage."""
    with pytest.raises(SystemExit) as end:
        parser().parse_args(words.split())
    assert (end.value.code, message in capsys.readouterr().err) == (cli.USAGE, True)


def test_help_has_groups_and_examples() -> None:
    """Each command stands in a group, and has an example that can be understood."""
    known = parser()
    text = known.format_help()
    assert [title for title in GROUPS if f"\n{title}:\n" in text] == list(GROUPS)
    leaves = {
        one.prog for one in parsers(known) if not any(isinstance(a, argparse._SubParsersAction) for a in one._actions)
    }
    assert leaves == {f"azureml-classic {command}" for command in EXAMPLES}
    for command, example in EXAMPLES.items():
        assert parser().parse_args([*command.split(), *shlex.split(example)]), command
    assert (
        "example: azureml-classic top --limit 10"
        in next(one for one in parsers(known) if one.prog.endswith(" top")).format_help()
    )


def test_every_argument_is_explained() -> None:
    """Each has a word of help, and each command a sentence that ends once."""
    for one in parsers(parser()):
        actions = [action for action in one._actions if not isinstance(action, argparse._SubParsersAction)]
        # The name of a shell is explained by its choices.
        assert [a.dest for a in actions if not a.help and not a.choices] == [], one.prog
        assert not re.search(r"[?.]\.$", one.description or ""), one.prog


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (["--min", "AUCC=0.9"], "--min names 'AUCC', which is no metric that is known. Did you mean 'AUC'?"),
        (["--max", "AUC=low"], "--max AUC=low: expected a number, as in --max AUC=0.9."),
        (["--max-worse", "Mean Absolut Error=5%"], "Did you mean 'Mean Absolute Error'?"),
    ],
)
def test_limits_that_are_none(limits: list[str], message: str) -> None:
    """They are refused before anything is uploaded or trained; a metric of the service's own is not."""
    arguments = ["train", "Line", "mine", "a.csv"]
    with pytest.raises(ValueError, match=re.escape(message)):
        _rules(parser().parse_args([*arguments, *limits]))
    assert _rules(parser().parse_args([*arguments, "--min", "Bike Hours Saved=9"])).limits


def test_nobodys_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home folder, as in a container, is told what to do."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(ValueError, match=r"no home folder.*set XDG_CONFIG_HOME"):
        profiles.config_path({})
    assert profiles.config_path({"XDG_CONFIG_HOME": "/c"}) == Path("/c/azureml-classic/config.toml")


def test_an_address_that_is_none() -> None:
    """It is a wrong argument, not a refusal of the service."""
    with pytest.raises(ValueError, match=r"must start with http:// or https://"):
        Access("127.0.0.1:8080", "w", "t").client()


@pytest.mark.parametrize(("long", "refuses", "count"), [(False, False, 50), (True, False, 60), (True, True, 1)])
def test_many_endpoints_are_not_all_asked(
    long: bool, refuses: bool, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The live models of a long list are asked for with ``--long`` only; a service that cannot tell is asked once."""
    asked = list[str]()

    def list_models(service_id: str, name: str, limit: int) -> Any:
        asked.append(name)
        if refuses:
            raise RequestRejected("no such call")
        return SimpleNamespace(models=[SimpleNamespace(metrics={"AUC": 0.9}, job_id=None)])

    listed = [Endpoint(f"e{n}", "s", resources=(Resource("m", BlobReference("a/b")),)) for n in range(60)]
    client = SimpleNamespace(
        find_web_service=lambda name: SimpleNamespace(id="s"),
        list_endpoints=lambda service_id: listed,
        list_models=list_models,
    )
    arguments = SimpleNamespace(service="s", long=long)
    session: Any = SimpleNamespace(client=client, out=Output("csv"), arguments=arguments)
    assert list_endpoints(session) == cli.DONE
    shown = capsys.readouterr()
    assert (len(asked), shown.out.count("\n"), "--long asks" in shown.err) == (count, 61, count == 50)
