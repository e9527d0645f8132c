"""An empty project of npm into which the packed client is installed, and the programs beside it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.stage import node
from tests.stage.kept import kept
from tests.stage.paths import ROOT

PACKAGE = ROOT / "clients" / "typescript"
PROGRAMS = Path(__file__).parent
BLOCK = re.compile(r"^```js\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: What the reader of the README has already, where a block uses it.
EXISTING = ("app", "server")


def built() -> Path:
    """The project, which tests share as long as nothing of it changes: it takes seconds to build.

    The frameworks and the compiler are in the folder above, with the packages of the client.
    """
    return kept("typescript", [*files(PACKAGE), *files(PROGRAMS)], build) / "project"


def files(folder: Path) -> Iterator[Path]:
    """The files of a folder that are not made."""
    for path in folder.rglob("*"):
        if path.is_file() and not {"node_modules", "dist", "__pycache__"} & set(path.parts):
            yield path


def build(folder: Path) -> None:
    """Pack the client, install it into an empty project, and compile the programs there."""
    node.installed(PACKAGE, folder)
    packed = node.ran(folder, "npm", "pack", "--silent").split()[-1]
    project = folder / "project"
    shutil.copytree(PROGRAMS, project, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (project / "package.json").write_text('{"private": true, "type": "module"}')
    quiet = ("--offline", "--no-audit", "--no-fund", "--silent")
    node.ran(project, "npm", "install", *quiet, f"../{packed}")
    node.ran(project, "../node_modules/.bin/tsc", "--project", ".")


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
        own = project / f"{names[-1]}.{os.getpid()}"  # Other runs share the project.
        existing = f'import {{ {", ".join(used)} }} from "./existing.mjs";\n' if used else ""
        own.write_text(existing + block)
        own.replace(project / names[-1])
    return names
