"""Another revision of the service, in a git work tree of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.database import execute

HERE = Path(__file__).parents[1]
LOCK = "requirements/service.lock"
#: Its own, because its schema and its keys may differ.
DATABASE, REDIS_NUMBER = "before", 1


@dataclass(frozen=True)
class Revision:
    """A work tree of the service, and the interpreter that runs it.

    :param name: the abbreviated hash and the subject of its commit
    """

    name: str
    root: Path
    python: str
    environment: dict[str, str] = field(default_factory=dict, repr=False)


@contextlib.contextmanager
def checked_out(revision: str, directory: Path, repository: Path = HERE) -> Iterator[Revision]:
    """Have ``revision`` in a work tree below ``directory`` while the ``with`` lasts.

    It shares this interpreter and its packages, unless its lock names others.

    :raises SystemExit: there is no such revision, or its packages cannot be installed
    """
    commit = git(repository, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
    name = git(repository, "log", "-1", "--format=%h %s", commit)
    root = directory / "before"
    git(repository, "worktree", "add", "--quiet", "--detach", str(root), commit)
    try:
        python = sys.executable
        if locked(root) != locked(repository):
            print(f"The packages of {name} differ: they get an environment of their own.")
            python = installed(root, directory / "before-venv")
        yield Revision(name, root, python)
    finally:
        git(repository, "worktree", "remove", "--force", str(root))


def git(repository: Path, *words: str) -> str:
    """The output of a git command, without hooks.

    :raises SystemExit: it failed
    """
    return output(["git", "-C", str(repository), "-c", "core.hooksPath=/dev/null", *words])


def output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed.\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def locked(root: Path) -> list[str]:
    """The lock of what serves, without its comments.

    :raises SystemExit: there is none
    """
    path = root / LOCK
    if not path.exists():
        raise SystemExit(f"That revision is too old: it has no {LOCK}.")
    lines = map(str.strip, path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def installed(root: Path, place: Path) -> str:
    """Install the locked packages of ``root`` into a new environment.

    :returns: its interpreter
    """
    output([sys.executable, "-m", "venv", str(place)])
    python = str(place / "bin" / "python")
    quiet = ["--disable-pip-version-check", "--quiet"]
    hashes = ["--require-hashes", "--no-deps", "-r", str(root / LOCK)]
    output([python, "-m", "pip", *quiet, "install", *hashes])
    return python


def migrated(revision: Revision, shared: dict[str, str]) -> Revision:
    """Give ``revision`` a database that its own code migrates, and its own keys in Redis."""
    servers, _, _ = shared["database_url"].rpartition("/")
    execute(shared["database_url"], f"CREATE DATABASE {DATABASE}")
    keys, _, _ = shared["redis_url"].rpartition("/")
    own = {"database_url": f"{servers}/{DATABASE}", "redis_url": f"{keys}/{REDIS_NUMBER}"}
    done = subprocess.run(
        [revision.python, "-m", "flask", "db", "upgrade"],
        cwd=revision.root,
        env=shared | own,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"flask db upgrade of {revision.name} failed.\n{done.stdout}{done.stderr}")
    return replace(revision, environment=shared | own)
