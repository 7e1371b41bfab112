"""The arguments of ``azureml-classic``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic import __version__
from airflow_provider_azureml_classic.cli import (
    administration,
    completion,
    endpoints,
    exporting,
    importing,
    jobs,
    login,
    models,
    scoring,
    services,
    train,
)
from airflow_provider_azureml_classic.cli.access import FILE_VARIABLE, TOKEN_VARIABLE, URL_VARIABLE, WORKSPACE_VARIABLE
from airflow_provider_azureml_classic.cli.help import Parser, add_examples
from airflow_provider_azureml_classic.cli.session import Command
from airflow_provider_azureml_classic.protocol.keys import KeyKind
from airflow_provider_azureml_classic.protocol.values import ThrottleLevel, TraceLevel
from airflow_provider_azureml_classic.retraining.judgement import ON_UNDECIDED
from airflow_provider_azureml_classic.retraining.rehearsing import AUTO, MODES

_TRAINER = "(default: default; where customers are kept apart, the customer's own)"
_EPILOG = (
    "`azureml-classic COMMAND --help` shows an example. "
    f"Without --connection, --conn-id or --profile the service is that of {URL_VARIABLE}, {WORKSPACE_VARIABLE} and "
    f"{TOKEN_VARIABLE}, of the file {FILE_VARIABLE}, or what `login` has kept. Exit status: 0 done, 1 refused by the "
    "service, 2 wrong arguments, 3 the job failed or was cancelled, 4 no answer or out of time, "
    "5 a new model that is not good enough, or an export that is refused or answers otherwise."
)


def parser() -> argparse.ArgumentParser:
    """All arguments, with completion of names."""
    made = Parser(
        prog="azureml-classic",
        description="Web services of Azure ML Studio (classic): see, retrain, update and score them.",
        epilog=_EPILOG,
    )
    made.add_argument("--version", action="version", version=f"azureml-classic {__version__}")
    made.set_defaults(connection=None, conn_id=None, profile=None, output="table")
    _common(made)
    groups = made.add_subparsers(metavar="COMMAND", required=True)
    _command(groups, "check", services.check, "does the service answer and take the token?")
    _command(groups, "doctor", services.doctor, "is everything there that retraining needs, and what to do if not")
    _login(groups)
    _services(_group(groups, "services", "web services"))
    _endpoints(_group(groups, "endpoints", "endpoints of a web service"))
    _jobs(_group(groups, "jobs", "batch jobs"))
    _keys(_group(groups, "keys", "keys of an endpoint that have a name"))
    _quota(_group(groups, "quota", "quotas of customers who are kept apart"))
    one = _command(groups, "audit", administration.audit, "who has changed what, the last operation first")
    one.add_argument("--limit", type=_positive, default=50, metavar="N", help="at most so many (default: 50)")
    _train(groups)
    one = _command(groups, "top", endpoints.top, "endpoints that need attention first, over all web services")
    one.add_argument("--limit", type=_positive, default=20, metavar="N", help="at most so many (default: 20)")
    _of_endpoint(groups, "history", models.history, "the models that an endpoint had, the last one first")
    _rollback(groups)
    _score(groups)
    one = _of_job(groups, "logs", jobs.logs, "the log of a job")
    one.add_argument("-f", "--follow", action="store_true", help="go on until the job has ended")
    one = _command(groups, "upload", jobs.upload, "check a file as the service reads it, and put it where jobs can")
    one.add_argument("file", type=Path, help="data, or a model (.ilearner)")
    one.add_argument("destination", help="container/path in the storage account, or a URL with a SAS token")
    _import(groups)
    _export(groups)
    one = _of_endpoint(groups, "download", jobs.download_model, "write the model that is live into a file")
    one.add_argument("file", type=Path, help="where it is written to")
    one.add_argument("--resource", metavar="NAME", help="updatable resource, where there are several")
    one.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    _completion(groups)
    add_examples(made)
    return made


def _completion(groups: Any) -> None:
    shell = groups.add_parser("completion", help="print what makes a shell complete commands and names")
    shell.add_argument("shell", choices=["bash", "zsh", "fish"])
    shell.set_defaults(run=None, alone=completion.print_script)


def _group(groups: Any, name: str, about: str) -> Any:
    made: argparse.ArgumentParser = groups.add_parser(name, help=about)
    _common(made)
    return made.add_subparsers(metavar="VERB", required=True)


def _common(made: argparse.ArgumentParser) -> None:
    """What may stand before a command, after it, and in between; the last one counts."""
    which = made.add_argument_group("which service, and how to print", argument_default=argparse.SUPPRESS)
    which.add_argument("--connection", type=Path, metavar="FILE", help="connection.json that the server writes")
    which.add_argument("--conn-id", metavar="ID", help="an Airflow connection of type azureml_classic")
    which.add_argument("--profile", metavar="NAME", help="a service that `login` has kept (default: 'default')")
    which.add_argument("-o", "--output", choices=["table", "json", "csv"], help="(default: table)")


def _command(groups: Any, name: str, run: Command | None, about: str) -> argparse.ArgumentParser:
    sentence = f"{about[0].upper()}{about[1:]}{'' if about.endswith('?') else '.'}"
    made: argparse.ArgumentParser = groups.add_parser(name, help=about, description=sentence)
    _common(made)
    made.set_defaults(run=run)
    return made


def _of_service(groups: Any, name: str, run: Command, about: str) -> argparse.ArgumentParser:
    made = _command(groups, name, run, about)
    service: Any = made.add_argument("service", help="name or id of the web service")
    service.completer = completion.service_names
    return made


def _of_endpoint(groups: Any, name: str, run: Command, about: str) -> argparse.ArgumentParser:
    made = _of_service(groups, name, run, about)
    endpoint: Any = made.add_argument("endpoint", help="name of the endpoint")
    endpoint.completer = completion.endpoint_names
    return made


def _yes(made: argparse.ArgumentParser) -> None:
    made.add_argument("-y", "--yes", action="store_true", help="do not ask")


def _login(groups: Any) -> None:
    one = _command(groups, "login", None, "keep a service and its token for later commands")
    one.add_argument("url", nargs="?", help="management URL of the service")
    one.add_argument("workspace", nargs="?", help="workspace id; the token is asked for, or read from standard input")
    one.set_defaults(alone=login.login)
    _command(groups, "logout", None, "forget a service that login has kept").set_defaults(alone=login.logout)


def _import(groups: Any) -> None:
    one = _command(groups, "import", None, "make DAGs of Data Factory files, declarations of API documents")
    one.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="of Data Factory; or swagger.json of web services"
    )
    one.add_argument("--into", type=Path, default=Path("dags"), metavar="FOLDER", help="(default: dags)")
    one.add_argument(
        "--service",
        action="append",
        default=[],
        metavar="LINKED=SERVICE[/ENDPOINT]",
        help="web service of a linked service; repeatable",
    )
    one.add_argument("--label", default="", metavar="COLUMN", help="what a model of the API document predicts")
    one.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=SETS", help="what a parameter sets; repeatable"
    )
    one.add_argument("--overwrite", action="store_true", help="replace files that are there")
    one.set_defaults(alone=importing.import_files)


def _export(groups: Any) -> None:
    one = _of_service(groups, "export", exporting.export, "write models as other tools load them, and compare answers")
    names: Any = one.add_argument("endpoints", nargs="*", metavar="endpoint", help="(default: all)")
    names.completer = completion.endpoint_names
    one.add_argument("--to", choices=list(exporting.TARGETS), required=True, help="what loads the models")
    one.add_argument("--into", type=Path, default=Path("export"), metavar="FOLDER", help="(default: export)")
    one.add_argument(
        "--versions",
        type=_positive,
        default=exporting.VERSIONS,
        metavar="N",
        help="models of each endpoint: the live one and those before it (default: 10)",
    )
    one.add_argument("--rows", type=Path, metavar="FILE", help="rows to compare answers on (default: rows made up)")
    one.add_argument("--overwrite", action="store_true", help="replace files that are there")


def _services(groups: Any) -> None:
    _command(groups, "list", services.list_services, "all web services")
    _of_service(groups, "show", services.show_service, "one web service")
    _yes(_of_service(groups, "delete", services.delete_service, "delete a web service with its endpoints"))


def _endpoints(groups: Any) -> None:
    one = _of_service(groups, "list", endpoints.list_endpoints, "all endpoints of a web service")
    one.add_argument("-l", "--long", action="store_true", help="metric and job of all, however many they are")
    one = _of_endpoint(groups, "show", endpoints.show_endpoint, "one endpoint")
    one.add_argument("--keys", action="store_true", help="show its keys too")
    one = _of_endpoint(groups, "add", endpoints.add_endpoint, "add an endpoint")
    one.add_argument("--if-exists", choices=["fail", "keep"], default="fail", help="(default: fail)")
    _settings(one)
    _settings(_of_endpoint(groups, "set", endpoints.set_endpoint, "change settings of an endpoint"))
    _update(_of_endpoint(groups, "update", endpoints.update_endpoint, "put a trained model live"))
    one = _of_endpoint(groups, "refresh", endpoints.refresh_endpoint, "bring an endpoint to the default one's state")
    one.add_argument("--overwrite-models", action="store_true", help="its models too, which undoes updates")
    _yes(one)
    one = _of_endpoint(groups, "regenerate-key", endpoints.regenerate_key, "replace one key; the other stays valid")
    one.add_argument("key", choices=["primary", "secondary"])
    one.add_argument("--keys", action="store_true", help="show the keys")
    _yes(one)
    _yes(_of_endpoint(groups, "delete", endpoints.delete_endpoint, "delete an endpoint"))


def _keys(groups: Any) -> None:
    _of_endpoint(groups, "list", administration.list_keys, "all named keys, without the keys themselves")
    one = _of_endpoint(groups, "make", administration.make_key, "make a key, and show it this once")
    one.add_argument("key", metavar="NAME", help="what the key is called; one of this name ends")
    one.add_argument("--kind", choices=[kind.value for kind in KeyKind], required=True, help="what it is for")
    one.add_argument("--expires-at", metavar="TIME", help="when it ends, ISO 8601 (default: when it is revoked)")
    _yes(one)
    one = _of_endpoint(groups, "revoke", administration.revoke_key, "end a key at once")
    one.add_argument("key", metavar="NAME", help="what the key is called")
    _yes(one)


def _quota(groups: Any) -> None:
    _of_endpoint(groups, "show", administration.show_quota, "what a customer may have, and what he has")
    one = _of_endpoint(groups, "set", administration.set_quota, "change what a customer may have")
    one.add_argument("--jobs-a-day", metavar="N|none", help="jobs that he may submit on a day (UTC)")
    one.add_argument("--bytes-kept", metavar="N|none", help="bytes that his folder may have")


def _settings(made: argparse.ArgumentParser) -> None:
    made.add_argument("--description", help="shown in lists")
    made.add_argument(
        "--throttle-level",
        choices=[level.value for level in ThrottleLevel],
        help="calls at a time: Low 4, High 20 unless --max-concurrent-calls says otherwise",
    )
    made.add_argument("--max-concurrent-calls", type=int, metavar="N", help="1 to 200, for the level High")
    made.add_argument("--trace-level", choices=[level.value for level in TraceLevel], help="which calls are logged")
    made.add_argument("--prevent-update", action=argparse.BooleanOptionalAction, help="refuse updates of its model")
    made.add_argument(
        "--stale-after", metavar="AGE", help="such as 36h or 7d: an older model is stale; none: as the web service says"
    )
    made.add_argument("--sample-data", action=argparse.BooleanOptionalAction, help="sample rows on the help page")


def _update(made: argparse.ArgumentParser) -> None:
    model = made.add_mutually_exclusive_group(required=True)
    model.add_argument("--location", "--model", dest="model", metavar="PLACE", help="container/path.ilearner, or URL")
    model.add_argument("--job", metavar="ID", help="finished job whose model it is; needs --trainer")
    made.add_argument("--trainer", default="", metavar="SERVICE", help="web service that ran the job")
    made.add_argument("--trainer-endpoint", metavar="NAME", help=_TRAINER)
    made.add_argument("--resource", metavar="NAME", help="updatable resource, where there are several")
    _rehearsal(made)


def _rehearsal(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--rehearsal",
        choices=MODES,
        default=AUTO,
        help="let both models answer the endpoint's last calls first: where possible, always, or not (default: auto)",
    )
    made.add_argument(
        "--max-change",
        action="append",
        default=[],
        metavar="MEASURE=NUMBER",
        help="keep the live model if more changes: changed, refused (shares), stability (index); repeatable",
    )


def _jobs(groups: Any) -> None:
    one = _of_endpoint(groups, "list", jobs.list_jobs, "the newest jobs of an endpoint")
    one.add_argument("--limit", type=_positive, default=20, metavar="N", help="at most so many (default: 20)")
    one = _of_endpoint(groups, "submit", jobs.submit, "submit and start a job")
    one.add_argument("--input", action="append", default=[], metavar="[NAME=]PLACE", help="data; repeatable")
    one.add_argument("--out", action="append", default=[], metavar="NAME=PLACE", help="where an output goes")
    _parameter(one)
    one.add_argument("--wait", action="store_true", help="stay until it has ended")
    _wait_timeout(one)
    _of_job(groups, "show", jobs.show, "state of a job")
    _wait_timeout(_of_job(groups, "wait", jobs.wait, "stay until a job has ended"))
    _of_job(groups, "cancel", jobs.cancel, "cancel a job")
    one = _of_job(groups, "download", jobs.download, "write an output of a finished job into a file")
    one.add_argument("file", type=Path, help="where it is written to")
    one.add_argument("--output-name", metavar="NAME", help="which output, where there are several")
    one.add_argument("--overwrite", action="store_true", help="replace the file if it is there")


def _of_job(groups: Any, name: str, run: Command, about: str) -> argparse.ArgumentParser:
    made = _of_endpoint(groups, name, run, about)
    made.add_argument("job", help="id of the job")
    return made


def _parameter(made: argparse.ArgumentParser) -> None:
    about = "parameter of the web service; repeatable"
    made.add_argument("--parameter", action="append", default=[], metavar="NAME=VALUE", help=about)


def _wait_timeout(made: argparse.ArgumentParser) -> None:
    made.add_argument("--wait-timeout", type=float, default=3600.0, metavar="SECONDS", help="(default: an hour)")


def _train(groups: Any) -> None:
    one = _of_endpoint(groups, "train", train.train, "train a model for an endpoint on a file, judge it, put it live")
    one.add_argument("file", type=Path, help="data: .csv, .tsv, .arff or .parquet")
    one.add_argument("--put-live", action="store_true", help="put the model live if it is good enough")
    _judging(one)
    one.add_argument(
        "--data-check",
        choices=("warn", "fail", "off"),
        default="warn",
        help="data unlike those of the live model: train and keep the live model, refuse them, or do not look",
    )
    one.add_argument("--window-end", metavar="TIME", help="end of the data, ISO 8601; a model is as new as its data")
    one.add_argument(
        "--only-if-newer",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep a live model that was trained on newer data (default), or replace it whatever it is",
    )
    one.add_argument("--window-start", metavar="TIME", help="start of the data")
    _parameter(one)
    one.add_argument("--resource", metavar="NAME", help="updatable resource, where there are several")
    one.add_argument("--trainer", default="", metavar="SERVICE", help="training web service (default: by its name)")
    one.add_argument("--trainer-endpoint", metavar="NAME", help=_TRAINER)
    _rehearsal(one)
    _wait_timeout(one)


def _judging(one: argparse.ArgumentParser) -> None:
    limit: dict[str, Any] = {"action": "append", "default": [], "metavar": "METRIC=NUMBER"}
    one.add_argument("--min", **limit, help="the least that a metric may be; repeatable")
    one.add_argument("--max", **limit, help="the most that a metric may be; repeatable")
    one.add_argument(
        "--max-worse",
        action="append",
        default=[],
        metavar="METRIC=NUMBER[%]",
        help="how much worse than the live model it may be, on rows held out of either's training; repeatable",
    )
    one.add_argument(
        "--on-undecided",
        choices=ON_UNDECIDED,
        help="what to do where the rows do not tell (default: by what the data check says of the file)",
    )
    one.add_argument(
        "--allow-training-metrics", action="store_true", help="accept metrics of a file too small to hold rows out"
    )


def _rollback(groups: Any) -> None:
    one = _of_endpoint(groups, "rollback", models.rollback, "put a model back that the endpoint had")
    which = one.add_mutually_exclusive_group()
    which.add_argument(
        "--window-end", metavar="TIME", help="end of its training window, ISO 8601 (default: the one that was before)"
    )
    which.add_argument("--model", metavar="DIGEST", help="beginning of its digest, as `history` shows it")
    one.add_argument("--resource", metavar="NAME", help="updatable resource, where there are several")
    one.add_argument("--proof-timeout", type=float, default=120.0, metavar="SECONDS", help="(default: two minutes)")


def _score(groups: Any) -> None:
    one = _of_endpoint(groups, "score", scoring.score, "score rows")
    one.add_argument("--row", action="append", default=[], metavar="JSON", help="an object, one member a column")
    one.add_argument(
        "--file", type=Path, metavar="FILE", help="CSV, TSV, ARFF (as its name says) or JSON; - is standard input"
    )
    _parameter(one)
    one.add_argument("--batch-size", type=_positive, default=500, metavar="N", help="rows in a call (default: 500)")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} must be 1 or more")
    return number
