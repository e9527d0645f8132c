"""An empty project of npm into which the packed client is installed, and the programs beside it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.stage import node
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
    folder = ROOT / ".venv" / f"typescript-{digest()}"
    with (folder.parent / "typescript.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            for old in folder.parent.glob("typescript-*"):
                shutil.rmtree(old)
            work = folder.with_name("typescript-unfinished")
            build(work)
            work.rename(folder)
    return folder / "project"


def digest() -> str:
    """A hash of all that a build depends on."""
    found = hashlib.sha256()
    for source in sorted([*files(PACKAGE), *files(PROGRAMS)]):
        found.update(f"{source.relative_to(ROOT)} ".encode() + source.read_bytes())
    return found.hexdigest()[:16]


def files(folder: Path) -> Iterator[Path]:
    """The files of a folder that are not made."""
    for path in folder.rglob("*"):
        if path.is_file() and not {"node_modules", "dist", "__pycache__"} & set(path.parts):
            yield path


def build(folder: Path) -> None:
    """Pack the client, install it into an empty project, and compile the programs there."""
    for source in files(PACKAGE):
        copy = folder / "sources" / source.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)
    node.installed(folder / "sources", folder)
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
        existing = f'import {{ {", ".join(used)} }} from "./existing.mjs";\n' if used else ""
        (project / names[-1]).write_text(existing + block)
    return names
