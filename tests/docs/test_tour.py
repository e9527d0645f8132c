"""The commands of the README and of docs/tour.md, run as pasted."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from pathlib import Path
from typing import Any

import httpx

from tests.docs.pages import blocks, read
from tests.stage.people import new_correo
from tests.stage.programs import needs_program, program
from tests.stage.service import Service

MARK = "-- next --"
has_curl = needs_program("curl")


def bash(script: str, folder: Path) -> str:
    """Run a script, which must succeed and complain of nothing, and return its output."""
    done = subprocess.run(
        [program("bash"), "-eu"],
        input=script,
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


@has_curl
def test_tour_has_one_success_one_refusal_and_the_success_again(
    service: Service, tmp_path: Path
) -> None:
    """Guards: the state "consumed" in validate.lua, and recall() in judge.lua."""
    first_minute, next_steps = blocks(read("docs/tour.md"), "bash")
    assert first_minute.count("http://localhost:8000") == 1
    tour = f"{first_minute}echo '{MARK}'\n{next_steps}"
    tour = tour.replace("http://localhost:8000", service.url)
    tour = tour.replace("ana@example.com", new_correo())  # a new one, on servers that are shared
    output, rest = bash(tour, tmp_path).split(MARK)

    lines = [line for line in output.splitlines() if line]
    assert lines[1::2] == ["201", "200", "409", "200"]
    _, first, second, again = (json.loads(line) for line in lines[::2])
    assert (first["valid"], first["replayed"]) == (True, False)
    assert second["code"] == "token_already_used"
    assert again == {**first, "replayed": True}

    held, committed = (json.loads(line) for line in rest.splitlines() if line)
    assert held["code"] == "token_reserved"
    assert (committed["valid"], committed["replayed"]) == (True, False)


def calls(console: str) -> list[tuple[str, str]]:
    """Each command of a console block, and the output shown under it."""
    found = []
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        found.append((command, output.strip()))
    return found


def assert_shown(shown: str, response: dict[str, Any], status: int) -> None:
    """Compare a response with the one shown, in which "…" stands for anything.

    A refusal shows its status, and no other response does.
    """
    members = json.loads(re.sub(r",…}$", "}", shown))
    names = [name for name in response if name in members or not shown.endswith(",…}")]
    assert names == list(members)
    assert members.get("status", status) == status
    assert ("status" in members) == (status >= 400)
    for name, value in members.items():
        if isinstance(value, str) and value.endswith("…"):
            assert response[name].startswith(value[:-1]), name
        else:
            assert response[name] == value, name


@has_curl
def test_commands_of_the_readme_have_the_shown_output(service: Service, tmp_path: Path) -> None:
    """A status or a member that is not as shown turns this red; both READMEs have these lines."""
    correo, password = new_correo(), secrets.token_urlsafe(12)
    account = {"nombre": "Demo", "correo": correo, "password": password}
    assert httpx.post(f"{service.url}/auth/register", json=account, timeout=30).status_code == 201
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local/demo_password").write_text(password)
    [console] = blocks(read("README.md"), "console")
    console = console.replace("http://localhost:8000", service.url)
    console = console.replace("demo@example.com", correo)

    before, shortened, statuses = "", {}, []
    for command, shown in calls(console):
        if not shown:
            before += f"{command}\n"
            continue
        script = before + command.replace("curl ", r"curl -s -w '\n%{http_code}' ", 1)
        for short, whole in shortened.items():
            script = script.replace(short, whole)
        body, _, status = bash(script, tmp_path).rpartition("\n")
        response = json.loads(body)
        assert_shown(shown, response, int(status))
        statuses.append(int(status))
        shortened |= {
            short: response[name]
            for short, name in (("eyJ…", "access_token"), ("ott_…", "token"))
            if name in response
        }
    assert statuses == [200, 201, 403, 200, 409, 200]
