"""Who may import whom, where wire names are spelled, and how long files and functions may be.

Written for whatever files exist: a new module is covered as soon as it is there.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from airflow_provider_azureml_classic.exceptions import CODES

PACKAGE = "airflow_provider_azureml_classic"
ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / PACKAGE).rglob("*.py"))

AIRFLOW_SIDE = {
    "hooks",
    "plugin",
    "triggers",
    "operators",
    "sensors",
    "links",
    "memory",
    "scheduling",
    "assets",
    "notifications",
    "watchers",
}
#: A room imports only rooms that stand in a line below its own. `make docs` draws the picture of it in CONTRIBUTING.
FLOORS = {
    "provider": (
        "sensors",
        "operators cli proof_trigger quality",  # the last two: paths of earlier versions
        "triggers watchers plugin",
        "assets notifications memory scheduling",
        "hooks links",
        "fleet",
        "retraining",
        "exporting",
        "client tables importing",
        "protocol",
        "exceptions get_provider_info",
    ),
    "server": (
        "server.faults",
        "server.__main__",
        "server.quickstart server.service",
        "server.portal server.web",
        "server.help server.jobs",
        "server.workspace",
        "server.counters server.models server.settings",
        "server.experiments server.state server.storage",
        "server.blobs server.clock tables",
        "protocol server.folders",  # the latter imports none of ours
        "exceptions",
    ),
}
#: Those that may import nothing but the standard library and us.
PURE = {"exceptions", "protocol"}
#: What the client may import besides, and only inside functions.
CLIENT_LIBRARIES = {"requests", "aiohttp", "yarl"}
#: What the server may import inside functions only, because it must start in under a second.
# fmt: off
HEAVY = {
    "azure", "dask", "distributed", "jinja2", "joblib", "numpy", "onnx", "onnxruntime", "pandas", "pyarrow", "skl2onnx",
    "sklearn",
}
# fmt: on
#: Names of the wire: members, parameters and headers. Left out are plain words (``Name``, ``Location``), headers of
#: HTTP itself (``If-Match``) and those of Azure Storage, whose protocol the blob store speaks.
# fmt: off
WIRE_NAMES = frozenset(
    {
        "ApiLocation", "AzureBatchPoolId", "BaseLocation", "Cancelled", "ColumnNames", "ColumnTypes",
        "ConnectionString", "CreatedAt", "CreationTime", "DefaultEndpointName", "DiagnosticsTraceLevel",
        "EndTime", "EndpointCount", "ExperimentLocation", "GlobalParameters", "HelpLocation", "HelpLocationURL",
        "Inputs", "MaxConcurrentCalls", "NotStarted", "Outputs", "OverwriteResources", "PreventUpdate",
        "PrimaryKey", "RelativeLocation", "Results", "SampleDataEnabled", "SasBlobToken", "SecondaryKey",
        "StartTime", "StatusCode", "ThrottleLevel", "WebServiceId", "WorkspaceId", "api-version",
        "x-ms-meta-sha256", "x-ms-request-id",
    }
)
# fmt: on
#: Parts of paths of the service, which stand in templates and so in pieces of texts.
WIRE_PATHS = ("/workspaces", "/webservices", "/apihelp", "/execute", "/regeneratekeys", "/apidocument")
MAX_FILE = 600
MAX_FUNCTION = 40
#: Nine of ten functions are no longer than this.
USUAL_FUNCTION = 18
MOST_SERVER_ROOMS, MOST_FLOORS, MOST_ROOT_MODULES, MOST_LATE_IMPORTS = 18, 11, 12, 10
#: Modules that only pass on what stands elsewhere now.
OLD_PATHS = {"proof_trigger", "quality"}


def area(path: Path) -> str:
    """The module or package directly below ours that a file belongs to; empty for our ``__init__``."""
    first = path.relative_to(ROOT / PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def name_of(path: Path) -> str:
    """A file's path as shown in failures and test ids."""
    return str(path.relative_to(ROOT / PACKAGE))


@cache
def parse(path: Path) -> ast.Module:
    """A file's syntax tree, which nobody changes."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[tuple[str, bool, int]]:
    """Each module that a file imports: dotted name, whether inside a function or for type checking only, line."""
    tree = parse(path)
    lazy: set[ast.AST] = set()
    for node in ast.walk(tree):
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if inside or for_types:
            lazy |= {inner for statement in node.body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in lazy, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            # `from package import module` imports the module too.
            names = [f"{module}.{alias.name}" for alias in node.names] if module == PACKAGE else [module]
            yield from ((name, node in lazy, node.lineno) for name in names)


def module_of(path: Path) -> str:
    """A file's dotted name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES if path.parent.name != "versions"}


def own_imports(path: Path) -> Iterator[tuple[str, int, bool]]:
    """Each of our modules that a file imports, those for types too: dotted name, line, whether inside a function."""
    tree = parse(path)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {inner for function in functions for inner in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(PACKAGE):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else str(node.module), node.lineno, node in inside
        elif isinstance(node, ast.Import):
            yield from ((a.name, node.lineno, node in inside) for a in node.names if a.name.startswith(PACKAGE))


def room_of(module: str) -> str:
    """The room of a module: below ours, or below the server."""
    parts = module.split(".")[1:]
    return ".".join(parts[: 2 if parts[:1] == ["server"] else 1])


def inner_imports(path: Path) -> set[str]:
    """The rooms of ours that a file imports."""
    return {room_of(name) for name, _, _ in own_imports(path)} - {"", "server"}


def every_file(rule: Callable[[Path], None]) -> Callable[[], None]:
    """A test of one rule that tells all files which break it; one test for each file would take ten times as long."""

    def check() -> None:
        broken = []
        for path in FILES:
            try:
                rule(path)
            except AssertionError as breach:
                broken.append(f"{name_of(path)}: {breach}")
        assert not broken, "\n".join(broken)

    check.__doc__ = rule.__doc__
    return check


@every_file
def test_imports_are_absolute(path: Path) -> None:
    """Relative imports would slip through the other tests here."""
    relative = [n.lineno for n in ast.walk(parse(path)) if isinstance(n, ast.ImportFrom) and n.level]
    assert relative == [], f"{name_of(path)}: relative import in lines {relative}"


@every_file
def test_layers(path: Path) -> None:
    """A room imports only rooms below it; so the provider never imports the server, nor the server the provider."""
    room = room_of(module_of(path))
    if room in ("", "server"):
        assert inner_imports(path) == set()
        return
    floors = [set(line.split()) for line in FLOORS["server" if room.startswith("server.") else "provider"]]
    at = next((number for number, rooms in enumerate(floors) if room in rooms), None)
    assert at is not None, f"{room} has no floor: give it one in FLOORS"
    assert inner_imports(path) <= {room}.union(*floors[at + 1 :])


def test_every_floor_is_there() -> None:
    """The table names no room that is gone."""
    rooms = {room_of(name) for name in MODULES}
    assert {room for floors in FLOORS.values() for line in floors for room in line.split()} - rooms == set()


def circles(arrows: dict[str, set[str]]) -> list[str]:
    """Modules that import each other, directly or not: what is left when those that import nothing left are taken."""
    left = {name: {target for target in targets if target != name} for name, targets in arrows.items()}
    while free := [name for name, targets in left.items() if not targets & set(left)]:
        for name in free:
            del left[name]
    return sorted(left)


def test_no_circle() -> None:
    """No two modules import each other, not even for types or inside functions."""
    assert circles({name: {target for target, _, _ in own_imports(path)} for name, path in MODULES.items()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


def test_the_house_stays_small() -> None:
    """The rooms of the server, the floors of each half and the modules in the root can be kept in mind."""
    assert max(map(len, FLOORS.values())) <= MOST_FLOORS
    rooms = {room_of(name) for name in MODULES}
    assert len({room for room in rooms if room.startswith("server.")}) <= MOST_SERVER_ROOMS
    root = {path.stem for path in (ROOT / PACKAGE).glob("*.py")} - OLD_PATHS
    assert len(root) <= MOST_ROOT_MODULES, sorted(root)


def test_our_modules_are_imported_at_the_top() -> None:
    """Few imports of our own modules stand inside functions, each with its reason in the line before."""
    late = {
        f"{name_of(path)}:{line}": path.read_text(encoding="utf-8").splitlines()[line - 2].strip()
        for path in FILES
        for _, line, inside in own_imports(path)
        if inside
    }
    assert {place: before for place, before in late.items() if not before.startswith("#")} == {}
    assert len(late) <= MOST_LATE_IMPORTS


@every_file
def test_third_party(path: Path) -> None:
    """The pure modules use the standard library only, the client its two transports, and only inside functions."""
    foreign = {
        (name.partition(".")[0], lazy)
        for name, lazy, _ in imports(path)
        if name.partition(".")[0] not in {*sys.stdlib_module_names, PACKAGE}
    }
    if area(path) in PURE:
        assert foreign == set()
    if area(path) == "client":
        assert foreign <= {(library, True) for library in CLIENT_LIBRARIES}


@every_file
def test_airflow_is_imported_by_the_provider_only(path: Path) -> None:
    """Client and server work where Airflow is not installed."""
    lines = [line for name, _, line in imports(path) if name.partition(".")[0] == "airflow"]
    assert not lines or area(path) in AIRFLOW_SIDE, f"{name_of(path)}: airflow in lines {lines}"


@every_file
def test_heavy_libraries_are_imported_in_functions(path: Path) -> None:
    """What reads files, trains, scores and draws pages is imported when it is needed, and where it is at home."""
    found = [(name, lazy, line) for name, lazy, line in imports(path) if name.partition(".")[0] in HEAVY]
    early = [(name, line) for name, lazy, line in found if not lazy]
    assert early == [], f"{name_of(path)}: imported at module level"
    assert not found or area(path) in {"server", "plugin", "tables", "exporting"}, f"{name_of(path)}: {found}"


def literals(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """String constants of a file with their lines, but for ``target=``, which says what an error is about."""
    targets = {node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "target"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in targets:
            yield node.value, node.lineno


@every_file
def test_wire_names_are_spelled_in_protocol(path: Path) -> None:
    """A name of the wire is written once, in ``protocol``; elsewhere stand the constants and values made of it."""
    if area(path) in {"protocol", "exceptions"}:
        return
    names = WIRE_NAMES | {name.title() for name in WIRE_NAMES if "-" in name}
    spelled = [(text, line) for text, line in literals(parse(path)) if text in names]
    assert spelled == [], f"{name_of(path)}: move these to protocol"


@every_file
def test_wire_paths_are_spelled_in_protocol(path: Path) -> None:
    """Nor is a path of the service put together anywhere else; documentation may name it."""
    tree = parse(path)
    documentation = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    spelled = [
        (node.value, node.lineno)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documentation
        if any(part in node.value for part in WIRE_PATHS)
    ]
    assert area(path) == "protocol" or spelled == [], f"{name_of(path)}: build these with protocol.operations"


def test_wire_names_are_those_of_protocol() -> None:
    """The list that the test above looks for is what protocol really spells, so that it cannot go stale."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in FILES if area(path) == "protocol")
    assert {name for name in WIRE_NAMES if f'"{name}"' not in text} == set()


@every_file
def test_rejections_have_known_codes(path: Path) -> None:
    """Every code given to :func:`rejection` is in its tables; otherwise it would be a KeyError when it matters."""
    unknown = [
        (node.args[0].value, node.lineno)
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "rejection"
        if node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value not in CODES
    ]
    assert unknown == [], f"{name_of(path)}: codes that exceptions.py does not have"


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring; of ``__init__`` without its parameters, which are a list."""
    first = node.body[0]
    start = first.lineno if node.name == "__init__" else node.lineno
    length = (node.end_lineno or start) - start + 1
    if ast.get_docstring(node) is not None:
        length -= (first.end_lineno or first.lineno) - first.lineno + 1
    return length


def test_names_in_a_data_directory_are_for_good() -> None:
    """Only ``folders`` gives a file its name, which survives a loss of power; a training's own files need not."""
    moves = {"replace", "rename", "renames", "link", "hardlink_to", "symlink_to"}
    movers = {
        name_of(path)
        for path in FILES
        if name_of(path).startswith("server/")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in moves
        # Texts and moments have a ``replace`` too: of two arguments, or of keywords.
        if len(node.args) == 1 or ast.unparse(node.func.value) in ("os", "shutil")
    }
    assert movers == {"server/folders.py", "server/experiments/ilearner.py"}


def test_json_of_others_is_read_by_one_function() -> None:
    """What people and other programs wrote may be nested so deeply that the decoder gives up in a way of its own; only
    who reads what the package wrote itself, or says what such a text is, decodes it directly."""
    readers = {name_of(path) for path in FILES if "json.loads(" in path.read_text(encoding="utf-8")}
    bodies = {"server/web/json_body.py", "protocol/model_file.py", "server/experiments/trial.py"}
    ours = {
        "exporting/azureml.py",
        "exporting/runtime.py",
        "server/experiments/scorer.py",
        "server/faults.py",
        "server/models/trials.py",
        "server/portal/sessions.py",
        "server/state/database.py",
        "server/workspace/catalogue.py",
    }
    assert readers == {"protocol/messages.py", *bodies, *ours}


def test_files_are_short() -> None:
    """No file of the package is longer than a reader keeps in mind."""
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > MAX_FILE} == {}


def test_functions_are_short() -> None:
    """No function of the package is longer than a screen; a revision of the database is a list of what it changes."""
    long = {
        f"{name_of(path)}:{node.lineno} {node.name}": lines_of(node)
        for path in FILES
        if path.parent.name != "versions"
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of(node) > MAX_FUNCTION
    }
    assert long == {}


def test_most_functions_are_short() -> None:
    """Nine of ten functions are read at a glance."""
    lengths = sorted(
        lines_of(node)
        for path in FILES
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert lengths[len(lengths) * 9 // 10] <= USUAL_FUNCTION


def test_importing_the_client_is_light() -> None:
    """The client is importable without Airflow, without the server, and before either transport is needed."""
    code = (
        f"import sys; import {PACKAGE}.client\n"
        f"unwanted = ('airflow', '{PACKAGE}.server', 'requests', 'aiohttp', 'yarl', 'pandas', 'sklearn')\n"
        "print([name for name in unwanted if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "[]"


def test_the_walk_sees_what_it_should(tmp_path: Path) -> None:
    """The helper tells module-level imports from those in functions and for type checking."""
    file = tmp_path / "module.py"
    file.write_text(
        "import a.b\nfrom c import d\n"
        f"from {PACKAGE} import server\n"
        "if TYPE_CHECKING:\n    import e\n"
        "class K:\n    import f\n    def m(self):\n        import g\n"
    )
    assert sorted((name, lazy) for name, lazy, _ in imports(file)) == [
        ("a.b", False),
        (f"{PACKAGE}.server", False),
        ("c", False),
        ("e", True),
        ("f", False),
        ("g", True),
    ]


#: Modules of the server that read files which are none of the data directory: of the package, of the configuration, of
#: a temporary folder of their own, or of the system.
READ_OTHERS = {
    "server/experiments/declaration.py", "server/experiments/imports.py", "server/experiments/trial.py",
    "server/faults.py", "server/help/pages.py", "server/jobs/dask.py", "server/portal/rendering.py",
    "server/portal/score_file.py", "server/quickstart.py",
    "server/settings/options.py", "server/storage/azure.py", "server/storage/locations.py",
}  # fmt: skip


def test_files_of_the_data_directory_are_opened_in_one_place() -> None:
    """A FIFO in the place of one hangs whoever opens it by himself."""
    reading = {
        name_of(path)
        for path in FILES
        if area(path) == "server" and path.name != "folders.py"
        for call in ast.walk(parse(path))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        if call.func.attr in ("read_bytes", "read_text", "copyfile", "copy2", "copytree")
        or (call.func.attr == "open" and [ast.unparse(one) for one in call.args[:1]] == ["'rb'"])
    }
    assert reading == READ_OTHERS
