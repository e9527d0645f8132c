"""The work tree of another revision, its packages, and its stores."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dev
from benchmarks.database import execute
from benchmarks.revision import DATABASE, LOCK, Revision, checked_out, migrated
from config import Config
from tests.stage.paths import ROOT
from tests.stage.programs import needs_program, program

pytestmark = needs_program("git")


def git(repository: Path, *words: str) -> str:
    who = ["-c", "user.name=Ana", "-c", "user.email=ana@example.com"]
    return subprocess.run(
        [program("git"), "-C", str(repository), *who, *words],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits; the lock differs in a comment."""
    place = tmp_path / "clone"
    (place / LOCK).parent.mkdir(parents=True)
    git(place, "init", "--quiet")
    for number, comment in ((1, "# via one\n"), (2, "# via two\n")):
        (place / "wsgi.py").write_text(f"number = {number}\n")
        (place / LOCK).write_text(comment)
        git(place, "add", "--all")
        git(place, "commit", "--quiet", "--message", f"commit {number}")
    return place


def test_it_is_a_work_tree_while_the_with_lasts(repository: Path, tmp_path: Path) -> None:
    with checked_out("HEAD^", tmp_path, repository) as found:
        assert (found.root / "wsgi.py").read_text() == "number = 1\n"
        assert found.root.is_relative_to(tmp_path)
        assert found.name.endswith(" commit 1")
        assert found.python == sys.executable  # comments of the lock do not count
    assert not found.root.exists()
    assert git(repository, "worktree", "list").count("\n") == 1
    assert (repository / "wsgi.py").read_text() == "number = 2\n"


def test_a_failure_leaves_no_work_tree(repository: Path, tmp_path: Path) -> None:
    """Guard: the ``finally`` in ``checked_out``; git refuses a second one there."""
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), checked_out("HEAD", tmp_path, repository):
            raise KeyboardInterrupt
    assert git(repository, "worktree", "list").count("\n") == 1


@pytest.mark.parametrize("name", ["nothing", "--help", "HEAD~9"])
def test_an_unknown_revision_is_refused(name: str, repository: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit), checked_out(name, tmp_path, repository):
        pass


def test_a_revision_without_a_lock_is_refused(repository: Path, tmp_path: Path) -> None:
    (repository / LOCK).unlink()
    git(repository, "commit", "--quiet", "--all", "--message", "no lock")
    with pytest.raises(SystemExit, match=LOCK), checked_out("HEAD", tmp_path, repository):
        pass
    assert git(repository, "worktree", "list").count("\n") == 1


@pytest.mark.slow
def test_other_packages_get_an_environment_of_their_own(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / LOCK).write_text("flask==0\n")  # not committed: only compared, not installed
    with checked_out("HEAD", tmp_path, repository) as found:
        assert found.python != sys.executable
        seen = subprocess.run(
            [found.python, "-c", "import flask"], capture_output=True, check=False
        )
    assert b"No module named 'flask'" in seen.stderr
    assert "differ" in capsys.readouterr().out


@pytest.fixture
def here(config: Config, postgres: dev.Postgres) -> Iterator[Revision]:
    """This work tree, as if it were another revision."""
    assert config.database_url
    assert config.redis_url
    shared = {
        "database_url": config.database_url,
        "redis_url": config.redis_url,
        "secret_key": config.secret_key,
    }
    yield migrated(Revision("here", ROOT, sys.executable), shared)
    execute(postgres.url, f"DROP DATABASE {DATABASE}")


@pytest.mark.slow
def test_it_has_a_database_and_keys_of_its_own(here: Revision, config: Config) -> None:
    assert here.environment["redis_url"] != config.redis_url
    assert here.environment["database_url"] != config.database_url
    assert execute(here.environment["database_url"], "SELECT count(*) FROM users") == [(0,)]
    assert here.environment["secret_key"] not in repr(here)
