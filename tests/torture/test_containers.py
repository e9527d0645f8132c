"""docs/containers.md, and the labels of the image. No container is started."""

from __future__ import annotations

import argparse
import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dev
from config import Config
from tests.docs.pages import blocks, read
from tests.stage.paths import ROOT
from tests.stage.people import PASSWORD, new_correo
from tests.stage.programs import docker, program
from tests.torture import deployed

PAGE = "docs/containers.md"
#: A docker that notes its arguments, and that no file is handed to but by its path.
NOTING = """#!/bin/sh
for word; do printf '%s\\0' "$word"; done >> "$NOTED"; printf '\\n' >> "$NOTED"
"""
Call = list[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the lines of the page have run, with passwords on standard input."""
    folder = tmp_path_factory.mktemp("containers")
    (folder / "bin").mkdir()
    for name, text in (("docker", NOTING), ("chown", "#!/bin/sh\n")):
        stand_in = folder / "bin" / name
        stand_in.write_text(text)
        stand_in.chmod(0o755)
    (folder / "people.csv").write_text(f"nombre,correo,password\nAna,{new_correo()},{PASSWORD}\n")
    script = "\n".join(blocks(read(PAGE), "bash")).replace("$(git rev-parse HEAD)", "0123abc")
    # The lines come as an argument, since each password is read from standard input.
    done = subprocess.run(
        [program("bash"), "-euc", script],
        cwd=folder,
        env={"PATH": f"{folder}/bin:{os.environ['PATH']}", "NOTED": str(folder / "noted")},
        input="for-the-app\nfor-redis\nfor-the-owner\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def calls(folder: Path) -> list[Call]:
    """The arguments of each docker."""
    noted = (folder / "noted").read_text().splitlines()
    return [line.split("\0")[:-1] for line in noted]


def runs(calls: list[Call]) -> list[argparse.Namespace]:
    """Each ``docker run`` of the page, by its options."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("rm", "interactive", "detach", "read-only"):
        parser.add_argument(f"--{name}", action="store_true")
    for name in ("env", "volume", "tmpfs", "log-opt"):
        parser.add_argument(f"--{name}", action="append", default=[])
    once = ("name", "restart", "stop-timeout", "network", "env-file", "cap-drop", "security-opt")
    for name in (*once, "memory", "pids-limit", "publish", "user"):
        parser.add_argument(f"--{name}")
    parser.add_argument("image")
    parser.add_argument("command", nargs="*")
    return [parser.parse_args(words[1:]) for words in calls if words[0] == "run"]


def test_each_option_is_one_of_docker(calls: list[Call]) -> None:
    """By the client, which reads all of them before it misses its engine."""
    client = docker()

    def read_by_client(words: Call) -> str:
        done = subprocess.run(
            [client, "--host", "unix:///nowhere/docker.sock", *words],
            capture_output=True,
            cwd=ROOT,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        return done.stderr

    here = {"--env-file": os.devnull}
    assert len(calls) >= 8
    for call in calls:
        words = [here.get(before, word) for before, word in zip(["", *call], call, strict=False)]
        assert re.search("connect to the Docker daemon|/nowhere/docker.sock", read_by_client(words))
    assert "unknown flag" in read_by_client(["run", "--read-onyl", "token-service"])


def test_each_container_is_confined(calls: list[Call]) -> None:
    found = runs(calls)
    assert len(found) == 4
    for one in found:
        assert one.read_only
        assert (one.cap_drop, one.security_opt) == ("ALL", "no-new-privileges")
        assert one.memory
        assert one.pids_limit
        assert one.network == "token-service"
    assert [one.image for one in found if one.publish] == ["haproxy:2.6"]
    [serve] = [one for one in found if one.detach and not one.publish]
    timeout = re.findall(r"^graceful_timeout = (\d+)$", read("gunicorn.conf.py"), re.MULTILINE)
    assert int(serve.stop_timeout) >= Config.drain_seconds + int(timeout[0]) + 2
    [proxy] = [one for one in found if one.publish]
    assert proxy.env == [f"SERVER_ONE={serve.name}:8000"]
    for volume in (volume for one in found for volume in one.volume):
        assert volume.endswith(":ro")


def test_the_commands_of_the_page_work(
    folder: Path, calls: list[Call], empty_url: str, redis_server: dev.Redis
) -> None:
    """On real stores, with the settings and the files that the options give a container."""
    commands = [one for one in runs(calls) if one.command]
    users = []
    for one in commands:
        given = (folder / one.env_file).read_text().splitlines() + one.env
        environment = dict(line.split("=", 1) for line in given)
        users.append(environment["db_user"])
        mounted = {there: path for path, there, _ in (each.split(":") for each in one.volume)}
        for name, value in environment.items():
            if name.endswith("_file"):
                parent, _, file = value.rpartition("/")
                environment[name] = f"{mounted[parent]}/{file}"
        # They win over the addresses of the page.
        environment |= {"database_url": empty_url, "redis_url": redis_server.url}
        done = subprocess.run(
            [sys.executable, "-m", *one.command],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "FLASK_SKIP_DOTENV": "1", **environment},
            input=(folder / "people.csv").read_text() if one.interactive else "",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert [one.command[:2] for one in commands] == [["flask", "db"], ["flask", "users"]]
    assert users == [deployed.OWNER, deployed.APP]


def labels() -> dict[str, str]:
    """The labels of the image, as a build without arguments gives them."""
    text = read("Dockerfile").replace("\\\n", " ")
    given = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    [line] = re.findall(r"^LABEL (.+)$", text, re.MULTILINE)
    pairs = re.findall(r'org\.opencontainers\.image\.(\w+)=("[^"]*"|\S+)', line)
    return {
        name: given[value[1:]] if value.startswith("$") else value.strip('"')
        for name, value in pairs
    }


def test_the_image_is_labelled_as_the_package_is() -> None:
    """A version that is changed in one place alone turns this red."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    package = setup["metadata"]
    assert labels() == {
        "title": "Token Service",
        "description": package["description"],
        "version": package["version"],
        "revision": "unknown",
        "source": "unknown",
        "licenses": package["license"],
    }
    arguments = set(re.findall(r"^ARG (\w+)=", read("Dockerfile"), re.MULTILINE))
    for page in (PAGE, "docs/kubernetes.md"):
        named = set(re.findall(r"--build-arg (\w+)=", read(page)))
        assert named
        assert named <= arguments
        tagged = re.findall(r"token-service:(\d[\d.]*)", "".join(blocks(read(page), "bash")))
        assert set(tagged) == {package["version"]}
