"""What Airflow is told about the provider, and what it makes of it."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
from importlib.metadata import distribution, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import airflow
import jsonschema
import pytest
from airflow.sdk import BaseHook, BaseOperator, BaseSensorOperator
from airflow.triggers.base import BaseTrigger

import airflow_provider_azureml_classic
from airflow_provider_azureml_classic import operators, sensors, triggers
from airflow_provider_azureml_classic.get_provider_info import get_provider_info
from airflow_provider_azureml_classic.hooks import AzureMLClassicHook

PACKAGE = "airflow_provider_azureml_classic"
INFO = get_provider_info()
SCHEMAS = Path(airflow.__file__).parent
OPERATORS: list[type[BaseOperator]] = [getattr(operators, name) for name in operators.__all__]
TASKS: list[type[BaseOperator]] = [*OPERATORS, sensors.JobSensor, sensors.ModelFreshnessSensor]
TRIGGERS: list[type[BaseTrigger]] = [triggers.JobTrigger, triggers.FreshnessTrigger]
name_of = pytest.mark.parametrize("kind", TASKS, ids=lambda kind: kind.__name__)


def schema(name: str) -> Any:
    """A schema of the installed Airflow."""
    return json.loads((SCHEMAS / name).read_text())


def test_runtime_schema() -> None:
    """The description is what Airflow reads at run time."""
    jsonschema.validate(INFO, schema("provider_info.schema.json"))


def test_connection_types_schema() -> None:
    """The connection form is what the stricter schema of Airflow's own providers wants."""
    build = schema("provider.yaml.schema.json")
    part = {**build["properties"]["connection-types"], "definitions": build.get("definitions", {})}
    jsonschema.validate(INFO["connection-types"], part)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate([{"connection-type": 1}], part)


def test_package_name_is_canonical() -> None:
    """Airflow refuses a provider whose name is not its distribution's canonical one."""
    assert INFO["package-name"] == "airflow-provider-azureml-classic"
    assert distribution(INFO["package-name"]).metadata["Name"] == INFO["package-name"]


def test_entry_point() -> None:
    """The installed distribution leads Airflow to the description."""
    (found,) = (
        point for point in entry_points(group="apache_airflow_provider") if point.value.startswith(f"{PACKAGE}.")
    )
    assert found.load()() == INFO


def listed(kind: str) -> set[str]:
    """Modules of one kind, as listed."""
    return {name for group in INFO[kind] for name in group["python-modules"]}


def defining(base: type) -> set[str]:
    """Modules of the package that define a public class of a kind that users use."""
    modules = [
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(airflow_provider_azureml_classic.__path__, f"{PACKAGE}.")
        if not found.name.startswith(f"{PACKAGE}.server")
    ]
    return {module.__name__ for module in modules if any(issubclass(kind, base) for kind in own_classes(module))}


def own_classes(module: ModuleType) -> list[type]:
    """Classes that a module itself defines."""
    return [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__]


def test_every_module_is_listed() -> None:
    """Every module with a hook, an operator, a sensor or a trigger is listed, and no other."""
    assert listed("hooks") == defining(BaseHook)
    assert listed("sensors") == defining(BaseSensorOperator)
    assert listed("triggers") == defining(BaseTrigger)
    # The bases of the operators are none that a user would use.
    bases = {f"{PACKAGE}.operators.{name}" for name in ("base", "placing", "running")}
    assert listed("operators") == defining(BaseOperator) - listed("sensors") - bases


def test_integrations() -> None:
    """Every group belongs to the one integration."""
    (name,) = (item["integration-name"] for item in INFO["integrations"])
    for kind in ("hooks", "operators", "sensors", "triggers"):
        assert {group["integration-name"] for group in INFO[kind]} == {name}


def test_hook_is_named() -> None:
    """The connection type leads to the hook, and both call it the same."""
    (connection,) = INFO["connection-types"]
    module, _, name = connection["hook-class-name"].rpartition(".")
    assert getattr(importlib.import_module(module), name) is AzureMLClassicHook
    assert connection["connection-type"] == AzureMLClassicHook.conn_type
    assert connection["hook-name"] == AzureMLClassicHook.hook_name
    assert "__" not in AzureMLClassicHook.conn_type
    assert inspect.signature(AzureMLClassicHook).parameters[AzureMLClassicHook.conn_name_attr]


def test_connection_form() -> None:
    """The web interface is served our form: names, hidden fields, and the extra fields with their kinds."""
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    (found,) = (item for item in HookMetaService.hook_meta_data() if item.connection_type == "azureml_classic")
    assert (found.hook_name, found.hook_class_name) == (
        "Azure ML Studio (classic)",
        f"{PACKAGE}.hooks.AzureMLClassicHook",
    )
    standard = found.standard_fields
    assert standard is not None
    assert standard.host is not None
    assert (standard.host.title, standard.host.placeholder) == ("Management URL", "http://127.0.0.1:8080")
    assert standard.login is not None
    assert standard.login.title == "Workspace id"
    assert standard.port is not None
    assert standard.port.hidden
    extra = found.extra_fields
    assert extra is not None
    assert sorted(extra) == ["storage_connection_string", "timeout", "verify"]
    text = json.dumps(extra["storage_connection_string"], default=str)
    assert '"format": "password"' in text


def test_secrets_are_named_so_that_airflow_masks_them() -> None:
    """Every extra field that is shown as a password has a name that Airflow masks by itself."""
    from airflow.sdk._shared.secrets_masker import should_hide_value_for_key

    (connection,) = INFO["connection-types"]
    secret = [name for name, field in connection["conn-fields"].items() if field["schema"].get("format") == "password"]
    assert secret
    assert all(should_hide_value_for_key(name) for name in secret)
    assert not should_hide_value_for_key("verify")


# -- operators and sensors as Airflow wants them -----------------------------------------------------------------------


def parameters(kind: type) -> dict[str, inspect.Parameter]:
    """Named parameters of the constructors of our own classes in a class's ancestry."""
    found: dict[str, inspect.Parameter] = {}
    for ancestor in kind.__mro__:
        if ancestor.__module__.startswith(PACKAGE):
            own = inspect.signature(inspect.unwrap(ancestor.__init__)).parameters  # type: ignore[misc]
            found |= {name: p for name, p in own.items() if name != "self" and p.kind is not p.VAR_KEYWORD}
    return found


@name_of
def test_no_parameter_shadows_airflow(kind: type[BaseOperator]) -> None:
    """No parameter takes the name of something that the base class has: ``output`` would break at parse."""
    base = BaseSensorOperator if issubclass(kind, BaseSensorOperator) else BaseOperator
    taken = {name for name in dir(base) if not name.startswith("_")}
    for ancestor in base.__mro__[:-1]:
        taken |= set(inspect.signature(inspect.unwrap(ancestor.__init__)).parameters)  # type: ignore[misc]
    assert {"output", "retries", "queue"} <= taken
    assert set(parameters(kind)) & taken == set()


@name_of
def test_parameters_are_keyword_only(kind: type[BaseOperator]) -> None:
    """Operators take named arguments only, as Airflow insists."""
    assert {p.kind for p in parameters(kind).values()} == {inspect.Parameter.KEYWORD_ONLY}


def made(kind: type[BaseOperator]) -> BaseOperator:
    """An instance whose every parameter is given a value of its own."""
    given = {name: f"given {name}" for name in parameters(kind)}
    return kind(task_id="t", **given)


@name_of
def test_template_fields(kind: type[BaseOperator]) -> None:
    """Every template field is a parameter, kept as given under its own name, until Airflow has rendered it."""
    assert set(kind.template_fields) <= set(parameters(kind))
    task = made(kind)
    assert {name: getattr(task, name) for name in parameters(kind)} == {n: f"given {n}" for n in parameters(kind)}
    assert set(kind.template_fields_renderers) <= set(kind.template_fields)


@pytest.mark.parametrize("kind", [*TASKS, *TRIGGERS, AzureMLClassicHook], ids=lambda kind: kind.__name__)
def test_parameters_are_documented(kind: type) -> None:
    """The class docstring, which Airflow's registry reads, has every parameter; a trigger may have them in its base."""
    lines = inspect.getdoc(kind) or ""
    if issubclass(kind, BaseTrigger):
        lines += inspect.getdoc(triggers.EndpointTrigger) or ""
    documented = set(re.findall(r":param (\w+):", lines))
    assert set(parameters(kind)) - documented == set()


@name_of
def test_templated_parameters_say_so(kind: type[BaseOperator]) -> None:
    """``(templated)`` stands in the documentation of exactly the template fields."""
    text = " ".join((inspect.getdoc(kind) or "").split())
    sections = re.findall(r":param (\w+): (.*?)(?=:param |$)", text)
    assert {name for name, said in sections if "(templated)" in said} == set(kind.template_fields)
