"""What ``--help`` shows: commands by what they are for, an example of each; and what is said of a word that is none."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from airflow_provider_azureml_classic.exceptions import did_you_mean

_CHOICE = re.compile(r"(?P<which>.*): invalid choice: '(?P<word>.*)' \(choose from (?P<choices>.*)\)", re.DOTALL)
_UNKNOWN = re.compile(r"unrecognized arguments: .*?(?P<word>--[^\s=]+)", re.DOTALL)
#: Commands by what they are for.
GROUPS = {
    "begin": "login logout check doctor",
    "see": "top services endpoints history jobs logs audit",
    "retrain": "train rollback upload download",
    "use": "score export import",
    "look after": "keys quota completion",
}
_BIKES = '"Bike Rental [predictive exp.]" customer1'
#: Command -> what may stand behind it.
EXAMPLES = {
    "check": "",
    "doctor": "",
    "login": "http://127.0.0.1:8080 WORKSPACE",
    "logout": "--profile prod",
    "services list": "",
    "services show": '"Bike Rental"',
    "services delete": '"Bike Rental"',
    "endpoints list": '"Bike Rental [predictive exp.]"',
    "endpoints show": _BIKES,
    "endpoints add": f'{_BIKES} --description "first customer"',
    "endpoints set": f"{_BIKES} --stale-after 2d",
    "endpoints update": f"{_BIKES} --location models/bikes.ilearner",
    "endpoints refresh": _BIKES,
    "endpoints regenerate-key": f"{_BIKES} primary",
    "endpoints delete": _BIKES,
    "jobs list": '"Bike Rental" default',
    "jobs submit": '"Bike Rental" default --input training/january.csv --wait',
    "jobs show": '"Bike Rental" default JOB',
    "jobs wait": '"Bike Rental" default JOB',
    "jobs cancel": '"Bike Rental" default JOB',
    "jobs download": '"Bike Rental" default JOB evaluation.csv --output-name output2',
    "keys list": _BIKES,
    "keys make": f"{_BIKES} website --kind ScoreOnly",
    "keys revoke": f"{_BIKES} website",
    "quota show": _BIKES,
    "quota set": f"{_BIKES} --jobs-a-day 5",
    "audit": "--limit 20",
    "train": '"Bike Rental" customer1 january.csv --put-live --max-worse "Mean Absolute Error=5%"',
    "top": "--limit 10",
    "history": _BIKES,
    "rollback": _BIKES,
    "score": f"{_BIKES} --file rows.csv -o csv",
    "logs": '"Bike Rental" default JOB --follow',
    "upload": "january.csv training/january.csv",
    "import": "pipeline.json --into dags",
    "export": '"Bike Rental [predictive exp.]" --to mlflow',
    "download": f"{_BIKES} model.ilearner",
    "completion": "bash",
}


class Parser(argparse.ArgumentParser):
    """Shows commands in groups, and names the word that was meant."""

    def error(self, message: str) -> NoReturn:
        """End with status 2; unlike the base class, say which word may have been meant.

        :param message: of the base class.
        """
        choice, unknown = _CHOICE.fullmatch(message), _UNKNOWN.match(message)
        if choice:
            known = [word.strip(" '") for word in choice["choices"].split(",")]
            near = did_you_mean(choice["word"], known)
            message = f"{choice['which']}: {choice['word']!r} is none of {', '.join(known)}.{near}"
        elif unknown:
            options = {option for one in parsers(self) for option in one._option_string_actions}
            message += f".{did_you_mean(unknown['word'], options)}"
        super().error(message)

    def format_help(self) -> str:
        """The usual text; that of the whole program has the commands in groups."""
        commands = next((each for each in self._actions if isinstance(each, argparse._SubParsersAction)), None)
        if commands is None or set(commands.choices) != set(" ".join(GROUPS.values()).split()):
            return super().format_help()
        about = {one.dest: one.help for one in commands._choices_actions}
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        for title, names in GROUPS.items():
            formatter.start_section(title)
            formatter.add_arguments(argparse.Action([], name, help=about[name], metavar=name) for name in names.split())
            formatter.end_section()
        for group in self._action_groups[1:]:
            formatter.start_section(group.title)
            formatter.add_arguments(group._group_actions)
            formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()


def parsers(made: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser, and those of its commands.

    :param made: the parser.
    """
    yield made
    for action in made._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from parsers(each)


def add_examples(made: argparse.ArgumentParser) -> None:
    """Give each command its example.

    :param made: the parser of the whole program.
    """
    for one in parsers(made):
        command = one.prog.removeprefix(made.prog).strip()
        example: Any = EXAMPLES.get(command)
        if example is not None:
            one.epilog = f"example: {one.prog} {example}".rstrip()
