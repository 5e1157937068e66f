"""Hold the layout of the code against its rules: room sizes, crumbs, circles, who may know protobuf, ``Any``, subjects.

    python tools/layout.py            # say what breaks a rule; exit 1 if anything does

The rules are those of CONTRIBUTING.md. Each is a function that yields one line per offence, naming the file.
"""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
TOPS = {"sampan": ROOT / "sampan", "services": ROOT / "services", "cli": ROOT / "cli"}

MAX_FILES = 15  # of a folder's own
MIN_LINES = 60  # shorter files are crumbs unless two rooms need them
MAX_SUBJECT = 72

# Packages whose files are small for a reason of their own.
_FREE_NAMES = frozenset(("__init__", "__main__", "main", "protocol", "metrics", "entry", "services", "fork_server"))

# Short files with one user that stay files, and why.
_KEPT = {
    "buildd.sources.attributes": "what six kinds of sources read alike",
    "buildd.configuration": "the supervisor reads it as well, and does not import the builder for that",
    "dockerapi.container.rows": "held by the backend, which knows no handler",
    "dockerapi.image.rows": "likewise",
    "imaged.registry.addresses": "imported with the first request: it brings aiohttp, a third of a second and 8 MB",
    "runtimed.lifecycle.restart": "what a policy says, apart from the loop that obeys it",
    "snapshotter.drivers.native": "a file per storage driver",
    "sampan.service.database_check": "imported by services that have a database: SQLite is two megabytes",
}

# What makes values of a JSON text.
_PARSERS = frozenset(("json.loads", "json.load", "load_json"))

# Where a value has no type that could be named, and why.
_ANY = {
    "sampan.json_types": "what a JSON document is",
    "sampan.client.convert.codec": "pairs the fields of any two classes, found by reflection",
    "sampan.client.calls": "gRPC's calls are generic in their request, which nobody looks at here",
    "sampan.service.config": "reads any dataclass out of TOML",
    "sampan.service.interceptor": "wraps gRPC's handlers, whatever their messages are",
    "dockerapi.http.fields": "looks into JSON",
    "sampan_cli.template.functions": "templates' functions take whatever value a template has",
    "sampan_cli.app.lazy": "hands click's arguments on to click",
}


@dataclass(frozen=True, slots=True)
class Module:
    """One file of the product."""

    name: str  # dotted
    path: Path
    lines: int
    imports: frozenset[str]  # modules of the product, also those imported under TYPE_CHECKING or in a function
    mentions_any: bool
    parses_json: bool  # by json.loads, json.load or load_json
    makes_stubs: bool  # calls a service by what protoc generated
    serves_routes: bool  # has a table of HTTP routes, which main.py puts together

    @property
    def room(self) -> str:
        """The package that the module is in."""
        return self.name.rpartition(".")[0]


def modules() -> Mapping[str, Module]:
    """Read every module of the product but for generated ones."""
    files: dict[str, Path] = {}
    for top in TOPS.values():
        base = top.parent if top.name == "sampan" else top
        for path in sorted(top.rglob("*.py")):
            if "api" not in path.relative_to(base).parts:
                files[_dotted(path, base)] = path
    return {name: _read(name, path, files) for name, path in files.items()}


def _dotted(path: Path, base: Path) -> str:
    name = path.relative_to(base).with_suffix("").as_posix().replace("/", ".")
    return name.removesuffix(".__init__")


def _read(name: str, path: Path, files: Mapping[str, Path]) -> Module:
    text = path.read_text()
    imports: set[str] = set()
    mentions_any = makes_stubs = parses_json = False
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            mentions_any |= any(alias.name == "Any" for alias in node.names)
            imports.update(_imported(node.module, alias.name, files) for alias in node.names)
        elif isinstance(node, ast.Attribute | ast.Name):
            mentions_any |= ast.unparse(node) == "typing.Any"
            parses_json |= ast.unparse(node) in _PARSERS
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Stub"):
            makes_stubs |= any(imported.startswith("sampan.api.") for imported in imports)
    return Module(
        name, path, len(text.splitlines()), frozenset(imports), mentions_any, parses_json, makes_stubs,
        "\nROUTES" in text,
    )  # fmt: skip


def _imported(module: str, name: str, files: Mapping[str, Path]) -> str:
    return f"{module}.{name}" if f"{module}.{name}" in files else module


def crowded_rooms(found: Mapping[str, Module]) -> Iterator[str]:
    """No folder has more than ``MAX_FILES`` files of its own."""
    rooms: dict[Path, int] = defaultdict(int)
    for module in found.values():
        rooms[module.path.parent] += module.path.name != "__init__.py"
    for room, count in sorted(rooms.items()):
        if count > MAX_FILES:
            yield f"{room.relative_to(ROOT)}: {count} files, the most is {MAX_FILES}: it is two rooms"


def crumbs(found: Mapping[str, Module]) -> Iterator[str]:
    """A file of under ``MIN_LINES`` lines stays one only if two rooms need it."""
    importers: dict[str, set[str]] = defaultdict(set)
    for module in found.values():
        for imported in module.imports:
            importers[imported].add(module.name)
    small = set[str]()
    for module in found.values():
        if module.lines >= MIN_LINES or not module.lines:
            continue
        if module.path.stem in _FREE_NAMES:
            continue
        if ".commands." in module.name or module.path.stem.endswith("_servicer"):
            continue  # commands are found by name (sampan_cli/app/table.py); a gRPC service has one servicer
        if module.room.startswith("sampan.client") or module.serves_routes:
            continue  # a gRPC service has one client; a resource of the Docker API one file of endpoints
        if len({found[name].room for name in importers[module.name]}) < 2:
            small.add(module.name)
    for name in sorted(small - _KEPT.keys()):
        users = ", ".join(sorted(importers[name])) or "nothing"
        yield f"{found[name].path.relative_to(ROOT)}: {found[name].lines} lines, used by {users}: it belongs there"
    for name in sorted(_KEPT.keys() - small):
        yield f"{name} needs no exception: there is no such file, or it is no crumb"


def circles(found: Mapping[str, Module]) -> Iterator[str]:
    """Imports form no circle, also not under TYPE_CHECKING (Tarjan's algorithm, without recursion)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    for start in found:
        if start in index:
            continue
        work: list[tuple[str, Iterator[str]]] = []
        _enter(start, found, index, low, stack, on_stack, work)
        while work:
            name, rest = work[-1]
            for following in rest:
                if following not in index:
                    _enter(following, found, index, low, stack, on_stack, work)
                    break
                if following in on_stack:
                    low[name] = min(low[name], index[following])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == index[name]:
                    circle = stack[stack.index(name) :]
                    del stack[stack.index(name) :]
                    on_stack.difference_update(circle)
                    if len(circle) > 1:
                        yield f"circle of imports: {', '.join(sorted(circle))}"


def _enter(
    name: str,
    found: Mapping[str, Module],
    index: dict[str, int],
    low: dict[str, int],
    stack: list[str],
    on_stack: set[str],
    work: list[tuple[str, Iterator[str]]],
) -> None:
    index[name] = low[name] = len(index)
    stack.append(name)
    on_stack.add(name)
    work.append((name, iter(sorted(found[name].imports & found.keys()))))


def stubs_outside_clients(found: Mapping[str, Module]) -> Iterator[str]:
    """Stubs, protobuf and gRPC are known to sampan.client, sampan.wire, the harness and services' wire rooms."""
    for module in found.values():
        parts = module.name.split(".")
        if parts[:2] in (["sampan", "client"], ["sampan", "wire"], ["sampan", "service"]) or "wire" in parts[1:]:
            continue
        known = sorted(name for name in module.imports if name.split(".")[0] in ("grpc", "google", "grpc_health"))
        known += sorted(name for name in module.imports if name.startswith("sampan.api"))
        if known:
            yield f"{module.path.relative_to(ROOT)}: imports {', '.join(known)}: call a client of sampan.client"


def stubs_in_servicers(found: Mapping[str, Module]) -> Iterator[str]:
    """Services ask each other by clients of sampan.client; their wire rooms have servicers, and no stub."""
    for module in found.values():
        if module.makes_stubs and not module.name.startswith("sampan.client."):
            yield f"{module.path.relative_to(ROOT)}: makes a stub: call a client of sampan.client"


def anys(found: Mapping[str, Module]) -> Iterator[str]:
    """``Any`` is for wire rooms and for the files that parse JSON; files that write it have typed values."""
    offenders = {
        module.name: module.path.relative_to(ROOT)
        for module in found.values()
        if module.mentions_any and "wire" not in module.name.split(".") and not module.parses_json
    }
    for name in _ANY:
        if name not in offenders:
            yield f"{name} needs no exception: it has no Any, or may have it"
    for name, path in offenders.items():
        if name not in _ANY:
            yield f"{path}: mentions Any: give the value a type"


def subjects(_: Mapping[str, Module]) -> Iterator[str]:
    """Commit subjects are ``area: what it does``, of at most ``MAX_SUBJECT`` characters."""
    log = subprocess.run(
        ["git", "log", "--format=%h %s", "--no-merges", f"{_since()}..HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    for line in log.stdout.splitlines():
        commit, _space, subject = line.partition(" ")
        area, colon, _rest = subject.partition(": ")
        area = area.replace(", ", "")  # two areas of one change
        if not colon or not area.replace("/", "").replace("-", "").replace(".", "").isalnum() or area != area.lower():
            yield f"commit {commit}: {subject!r} does not begin with 'area: '"
        elif len(subject) > MAX_SUBJECT:
            yield f"commit {commit}: the subject has {len(subject)} characters, the most is {MAX_SUBJECT}"


def _since() -> str:
    """The commit before the rule was made: what is older keeps its subject."""
    added = subprocess.run(
        ["git", "log", "--diff-filter=A", "--format=%H", "--", "tools/layout.py"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    return added.stdout.split()[-1] if added.stdout else "HEAD"


RULES: tuple[Callable[[Mapping[str, Module]], Iterator[str]], ...] = (
    crowded_rooms, crumbs, circles, stubs_outside_clients, stubs_in_servicers, anys, subjects,
)  # fmt: skip


def main() -> int:
    """Check every rule."""
    found = modules()
    offences = [f"{rule.__name__.replace('_', ' ')}: {line}" for rule in RULES for line in rule(found)]
    print("\n".join(offences) if offences else f"{len(found)} modules keep the rules")
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
