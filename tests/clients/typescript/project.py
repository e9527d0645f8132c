"""An empty project of npm into which the packed client is installed, and the programs beside it."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.stage import node
from tests.stage.paths import ROOT
from tests.stage.proxy import KINDS, Proxy

PACKAGE = ROOT / "clients" / "typescript"
PROGRAMS = Path(__file__).parent
BLOCK = re.compile(r"^```js\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: What the reader of the README has already, where a block uses it.
EXISTING = ("app", "server")


def built(folder: Path) -> Path:
    """Pack the client, install it into a project, and compile the programs there.

    The frameworks and the compiler are in the folder above, with the packages of the client.
    """
    own = shutil.ignore_patterns("node_modules", "dist", "*.tgz")
    sources = shutil.copytree(PACKAGE, folder / "sources", ignore=own)
    node.installed(sources, folder)
    packed = node.ran(folder, "npm", "pack", "--silent").split()[-1]
    project = folder / "project"
    shutil.copytree(PROGRAMS, project, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (project / "package.json").write_text('{"private": true, "type": "module"}')
    quiet = ("--offline", "--no-audit", "--no-fund", "--silent")
    node.ran(project, "npm", "install", *quiet, f"../{packed}")
    node.ran(project, "../node_modules/.bin/tsc", "--project", ".")
    return project


def called(project: Path, module: str, name: str, *given: object) -> Any:
    """The result of a function of a compiled program. What it is given goes through stdin."""
    told = node.ran(project, "node", "main.mjs", f"./{module}.js", name, told=json.dumps(given))
    return json.loads(told)


def blocks(page: str) -> list[str]:
    """The JavaScript of a page of the package."""
    return BLOCK.findall((PACKAGE / page).read_text(encoding="utf-8"))


def written(project: Path, page: str) -> list[str]:
    """Write each block of a page as a module, with what its reader has; return their names."""
    names = []
    for place, block in enumerate(blocks(page)):
        used = [
            name
            for name in EXISTING
            if re.search(rf"\b{name}\b", block) and f"const {name} " not in block
        ]
        names.append(f"./{Path(page).stem}-{place}.mjs")
        existing = f'import {{ {", ".join(used)} }} from "./existing.mjs";\n' if used else ""
        (project / names[-1]).write_text(existing + block)
    return names


@contextmanager
def losing(port: int, count: int) -> Iterator[tuple[Proxy, list[str]]]:
    """A proxy before a service, and marks of so many replies that it loses, each kind in turn."""
    with Proxy(port, late=1) as proxy:
        marks = [f"lost-{number};" for number in range(count)]
        for mark, kind in zip(marks, itertools.cycle(KINDS), strict=False):
            proxy.lose(mark.encode(), kind)
        yield proxy, marks
