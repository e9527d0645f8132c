"""The structure of the package: the permitted imports, and the public endpoints."""

from __future__ import annotations

import ast
import graphlib
import sys
import uuid
from collections.abc import Iterator

import pytest
from flask import Flask

from tests.stage.catalogue import FOR_PROXIES, PUBLIC
from tests.stage.paths import ROOT

PACKAGE = "tokenservice"
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in [
        *(ROOT / PACKAGE).rglob("*.py"),
        *(ROOT / "dev").rglob("*.py"),
        *(ROOT / "settings").glob("*.py"),
        ROOT / "config.py",
        ROOT / "wsgi.py",
    ]
}
PROJECT = {PACKAGE, "dev", "settings", "config", "wsgi"}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}

# The order of the rooms: a room imports from itself and from the rooms after it.
ROOMS = [
    "tokenservice",
    "tokenservice.token",
    "tokenservice.auth",
    "tokenservice.audit",
    "tokenservice.ops",
    "tokenservice.web",
    "tokenservice.telemetry",
    "tokenservice.postgres",
    "tokenservice.extensions",
    "tokenservice.onetime",
    "config",
    "settings",
]
# The worker refuses what is no request, with the problems and the limits of the rooms.
BESIDE = {
    "tokenservice.server.worker": {"tokenservice.web"},
    "tokenservice.server.pool": {"tokenservice.telemetry"},
    "tokenservice.server.refusals": {"tokenservice.web", "tokenservice.telemetry"},
}
#: Modules, and the one module or folder of the project that each may import.
LEAVES = {
    "tokenservice.web.strictjson": "",
    "tokenservice.web.plaintext": "",
    "tokenservice.auth.emails": "tokenservice.web.plaintext",
    "tokenservice.server.request": "",
    "tokenservice.server.bounds": "",
    "tokenservice.server.wsgi": "tokenservice.server.request",
    "settings.addresses": "",
    "settings.environment": "",
    "settings.fields": "",
    "config": "settings",
    "tokenservice.onetime": "tokenservice.onetime",
    "dev": "dev",
}
#: Modules of a leaf, and what each may import beside it. The page of ``make run`` is part of the
#: service that it shows.
FREER = {
    "dev.__main__": {"settings.environment"},
    "dev.demo.app": {"wsgi"},
    "dev.demo.pages": {"tokenservice.web"},
}
# The engine can be used outside of this project.
ENGINE_NEEDS = {"redis", "hiredis"}


def imports(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """Each import as (module, name taken from it or None)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            for alias in node.names:
                yield node.module or "", alias.name


def needs(name: str) -> set[str]:
    """The modules of the project that ``name`` imports."""
    found = set()
    for module, taken in imports(TREES[name]):
        if module.split(".")[0] in PROJECT:
            below = f"{module}.{taken}"
            found.add(below if below in FILES else module)
    return found


def within(name: str, folder: str) -> bool:
    return bool(folder) and (name == folder or name.startswith(folder + "."))


@pytest.mark.parametrize("name", FILES)
def test_imports_stand_at_the_top(name: str) -> None:
    """Behind the docstring and before all else, so that the head of a file shows them all."""
    body = TREES[name].body
    kinds = (ast.Import, ast.ImportFrom)
    rest = [statement for statement in body[1:] if not isinstance(statement, kinds)]
    first_other = rest[0].lineno if rest else float("inf")
    for node in ast.walk(TREES[name]):
        if isinstance(node, kinds):
            assert node in body, f"line {node.lineno} is not at module level"
            assert node.lineno < first_other, f"line {node.lineno} is below the top"


def test_imports_form_a_tree() -> None:
    graph = {name: needs(name) - {name} for name in FILES}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert set(order) <= set(FILES) | {PACKAGE}


@pytest.mark.parametrize("name", FILES)
def test_no_module_takes_names_from_the_package_root(name: str) -> None:
    """It wires everything, so an import from it imports everything. Only ``wsgi`` may."""
    for module, taken in imports(TREES[name]):
        if module == PACKAGE and (name, taken) != ("wsgi", "create_app"):
            assert f"{PACKAGE}.{taken}" in FILES, f"{taken} is no module"


def room_of(name: str) -> str:
    """The room of a module; a module beside the rooms is its own."""
    return max((room for room in ROOMS if within(name, room)), key=len, default=name)


@pytest.mark.parametrize("name", [name for name in FILES if within(name, PACKAGE)])
def test_imports_point_down_the_rooms(name: str) -> None:
    """Red where a room imports from one above it, as one domain from another."""
    room = room_of(name)
    if within(name, "tokenservice.server"):
        allowed = {"tokenservice.server"}
    else:
        allowed = set(ROOMS[ROOMS.index(room) :])
    allowed |= BESIDE.get(name, set())
    for needed in needs(name) - {name}:
        assert any(within(needed, below) for below in allowed - {PACKAGE}), f"imports {needed}"


@pytest.mark.parametrize("name", FILES)
def test_no_private_module_of_a_library_is_imported(name: str) -> None:
    for module, taken in imports(TREES[name]):
        for part in [*module.split("."), taken or ""]:
            assert not part.startswith("_") or part == "__future__", f"{module} {taken}"


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_imports_nothing_else_of_the_project(leaf: str) -> None:
    members = [name for name in FILES if within(name, leaf)]
    assert members
    for name in members:
        allowed = {LEAVES[leaf], *FREER.get(name, ())}
        for needed in needs(name):
            assert any(within(needed, one) for one in allowed), f"{name} imports {needed}"


def test_the_engine_imports_redis_and_the_standard_library_alone() -> None:
    for name in FILES:
        if within(name, "tokenservice.onetime"):
            for module, _ in imports(TREES[name]):
                if not within(module, "tokenservice.onetime"):
                    assert module.split(".")[0] in sys.stdlib_module_names | ENGINE_NEEDS, (
                        f"{name}: {module}"
                    )


def test_the_local_servers_import_the_standard_library_alone() -> None:
    """``make run`` starts them before anything is known to work."""
    for name in FILES:
        if within(name, "dev") and name not in FREER:
            for module, _ in imports(TREES[name]):
                if not within(module, "dev"):
                    assert module.split(".")[0] in sys.stdlib_module_names, f"{name}: {module}"


def test_no_file_has_a_vague_name() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
    for path in FILES.values():
        assert path.stem not in vague
        assert "_and_" not in path.stem


def test_every_route_is_public_by_name_or_needs_a_caller(app: Flask) -> None:
    """Default deny. Red without ``authenticate`` before every request, or for a forgotten route."""
    client = app.test_client()
    guarded = set()
    for rule in app.url_map.iter_rules():
        if rule.endpoint in PUBLIC:
            continue
        guarded.add(rule.endpoint)
        ids = {"session_id": uuid.UUID(int=0)}
        values = {name: ids.get(name, "x" * 18) for name in rule.arguments}
        path = rule.build(values, append_unknown=False)
        assert path
        for method in (rule.methods or set()) - {"OPTIONS"}:
            response = client.open(path[1], method=method)
            if rule.endpoint in FOR_PROXIES:
                assert response.headers["X-Token-Code"] == "not_authenticated"
                continue
            assert response.status_code == 401, f"{method} {rule.rule}"
            assert response.headers["WWW-Authenticate"] == "Bearer"
    assert {"auth.me", "token.create", "token.consume", "token.validate"} <= guarded


def test_the_public_views_are_exactly_these(app: Flask) -> None:
    """Red for a view that is marked ``@public``, or loses the mark, without a change here."""
    public = {name for name, view in app.view_functions.items() if hasattr(view, "is_public")}
    assert public == PUBLIC
