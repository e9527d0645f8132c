"""The supply chain: packages are pinned by hash, listed, and checked for vulnerabilities."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.stage.paths import ROOT
from tests.stage.programs import lacks, program
from tests.torture.ledger import record

RUNTIME = ROOT / "requirements" / "service.lock"
LOCAL = ROOT / "requirements" / "run.lock"  # those packages, and the further ones of make run
# All files that can name a package to install, without tools and builds.
LOCKS = sorted(
    [*(ROOT / "requirements").iterdir(), *(ROOT / "benchmarks").glob("**/requirements*.txt")]
)
NPM_LOCKS = [
    path
    for folder in ("benchmarks", "clients", "tests")
    for path in ROOT.glob(f"{folder}/**/package-lock.json")
    if "node_modules" not in path.parts
]
PINNED = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^\s;]+)(?: ; (.+?))?$")
HASH = re.compile(r"^--hash=sha256:[0-9a-f]{64}$")
TOOLS = "make .venv/.audit has not installed pip-audit and cyclonedx-py"


def lines_of(lock: Path) -> Iterator[tuple[str, list[str]]]:
    """Each requirement of a lock, and its options."""
    text = re.sub(r"^\s*#.*\n", "", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for line in text.replace("\\\n", "").splitlines():
        if line.strip():
            requirement, *options = re.split(r"\s+(?=--)", line.strip())
            yield requirement, options


def pins_of(lock: Path) -> set[tuple[str, str]]:
    """The names and versions; several versions of a name where they depend on the Python."""
    found = (PINNED.match(requirement) for requirement, _ in lines_of(lock))
    return {(match[1], match[2]) for match in found if match}


def test_each_requirement_is_pinned_by_hash() -> None:
    """S61. Guard: --generate-hashes, and --require-hashes at the installation."""
    loose = []
    pinned = 0
    for lock in LOCKS:
        for requirement, options in lines_of(lock):
            pinned += 1
            whole = options and all(HASH.match(option) for option in options)
            if not (whole and PINNED.match(requirement)):
                loose.append(f"{lock.name}: {requirement}")
    for lock in NPM_LOCKS:
        packages = json.loads(lock.read_text(encoding="utf-8"))["packages"]
        for name, package in packages.items():
            pinned += 1
            if name and not package.get("integrity", "").startswith("sha512-"):
                loose.append(f"{lock.name}: {name}")
    record(
        "Each package of each lock is pinned to a version and to the hashes of its files.",
        n=pinned,
        failures=len(loose),
        figures=f"{len(LOCKS) + len(NPM_LOCKS)} locks",
    )
    assert len(LOCKS) >= 6
    assert NPM_LOCKS
    assert loose == []


@pytest.mark.parametrize(
    "line",
    ["flask", "flask>=3", "flask==3.1.3", "flask==3.1.3 --hash=md5:00", "-e .", "./wheel.whl"],
)
def test_a_loose_requirement_is_noticed(line: str, tmp_path: Path) -> None:
    """The twin of the test above."""
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"# a lock\n{line}\n    # via nothing\n")
    [(requirement, options)] = lines_of(lock)
    assert not (options and all(HASH.match(option) for option in options)) or not PINNED.match(
        requirement
    )


def test_every_install_requires_hashes() -> None:
    """Except uv, which writes the locks: these are reviewed before they are committed."""
    for name in ("Makefile", "Dockerfile"):
        text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
        installs = re.findall(r"^.*(?:/pip|-m pip|\(PIP\))[^;&|]* install .*$", text, re.MULTILINE)
        assert installs
        for line in installs:
            assert "--require-hashes" in line or line.endswith(" uv"), line
        assert "npm install" not in text


def test_each_lock_is_in_step_with_the_others_and_with_setup_cfg() -> None:
    """Guard: -c, which holds a lock to the versions of the one before."""
    shipped = pins_of(RUNTIME)
    locks = ROOT / "requirements"
    for lock in locks.glob("*.lock"):
        if lock.name not in {"redis.lock", "servers.lock"}:
            assert shipped <= pins_of(lock), lock.name
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    wanted = {"service.lock": setup["options"]["install_requires"]}
    for extra, requirements in setup["options.extras_require"].items():
        wanted[f"{extra}.lock"] = requirements
    for name, requirements in wanted.items():
        pins = pins_of(locks / name)
        for line in re.sub(r"#.*", "", requirements).split("\n"):
            if line:
                asked = Requirement(line)
                # One version, or one for each Python that the lock serves.
                versions = [version for pin, version in pins if pin == asked.name.lower()]
                assert versions, f"{name}: {line}"
                assert all(map(asked.specifier.contains, versions)), f"{name}: {line}"


@pytest.fixture(scope="module")
def tools() -> str:
    """A Python with the tools of ``make audit`` and ``make sbom``."""
    path = os.pathsep.join([str(Path(sys.prefix, "bin")), os.environ["PATH"]])
    found = shutil.which("pip-audit", path=path)
    if not found:
        lacks(TOOLS)
    return str(Path(found).parent / "python")


def make(target: str, tools: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a target of the Makefile with ``tools``, without an installation of them."""
    words = [f"{name}={value}" for name, value in variables.items()]
    return subprocess.run(
        [program("make"), "--silent", "-o", ".venv/.audit", target, f"PY={tools}", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_sbom_lists_exactly_the_lock(tools: str, tmp_path: Path) -> None:
    """It is also reproducible, byte for byte."""
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    for file, words in zip(files, ("", "--no-validate"), strict=True):
        done = make("sbom", tools, SBOM=str(file), ARGS=words)
        assert done.returncode == 0, done.stderr
    assert files[0].read_bytes() == files[1].read_bytes()
    listed = json.loads(files[0].read_text(encoding="utf-8"))
    assert listed["bomFormat"] == "CycloneDX"
    assert listed["metadata"]["component"]["name"] == "token-service"
    assert {(part["name"], part["version"]) for part in listed["components"]} == pins_of(RUNTIME)
    for part in listed["components"]:
        assert part["purl"] == f"pkg:pypi/{part['name']}@{part['version']}"
        assert part["externalReferences"][0]["hashes"]


def audit(tools: str, cache: Path, *words: str) -> tuple[int, list[dict[str, Any]], str]:
    """Look up the shipped packages and those of make run.

    :returns: the exit code, the result of each package, and the output
    """
    arguments = ["--format", "json", "--progress-spinner", "off", "--cache-dir", str(cache), *words]
    done = make("audit", tools, ARGS=" ".join(arguments))
    try:
        return done.returncode, json.loads(done.stdout)["dependencies"], done.stderr
    except ValueError:
        output = [line for line in done.stderr.splitlines() if line and not line.startswith("make")]
        return done.returncode, [], output[-1] if output else "no output"


def test_no_shipped_package_has_a_known_vulnerability(tools: str, tmp_path: Path) -> None:
    """S61. Skipped, and never passed, when the vulnerability service is unreachable."""
    code, looked_up, output = audit(tools, tmp_path)
    if not looked_up:
        assert code != 0
        pytest.skip(f"the vulnerability service did not respond: {output.splitlines()[-1]}")
    vulnerable = {package["name"]: package["vulns"] for package in looked_up if package["vulns"]}
    record(
        "No shipped package has a known vulnerability.",
        n=len(looked_up),
        failures=len(vulnerable),
    )
    assert vulnerable == {}
    assert code == 0


@contextmanager
def vulnerability_service(vulnerable: str, status: int = 200) -> Iterator[str]:
    """A stand-in, on loopback, for the vulnerability service, which knows one package."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = {"id": "TEST-1", "summary": "a", "details": "b", "aliases": []}
            found |= {"affected": [{"package": asked["package"], "ranges": [], "versions": []}]}
            body = {"vulns": [found]} if asked["package"]["name"] == vulnerable else {}
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("vulnerable", "status", "passes"),
    [("", 200, True), ("redis", 200, False), ("", 404, False), ("", 503, False)],
    ids=["all sound", "one vulnerable", "knows nothing", "away"],
)
def test_the_audit_passes_only_known_packages(
    vulnerable: str, status: int, passes: bool, tools: str, tmp_path: Path
) -> None:
    """Guard: --strict. Without it packages unknown to the service pass as safe."""
    with vulnerability_service(vulnerable, status) as url:
        words = ("--vulnerability-service osv --osv-url", url)
        code, looked_up, output = audit(tools, tmp_path, *words)
    assert (code == 0) == passes, output
    if passes:
        here = {name for name, _ in pins_of(LOCAL)}
        assert {package["name"] for package in looked_up} <= here
        assert len(looked_up) >= len(here) - 3  # without those for another Python


SECRETS = [
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    r"\bot[tr]_[0-9A-Za-z]{56,}",  # a token, or a reservation
    r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{20,}",  # a JWT
    r"\$argon2id?\$v=19\$[^\s\"'{]*\$[A-Za-z0-9+/]{16,}\$",
    r"://[^\s:/@]*:[A-Za-z0-9_+-]{16,}@",
    r"(?i)^[a-z_]*(?:secret|password|token)[a-z_]*=['\"]?[A-Za-z0-9_+/-]{24,}",
    r"\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}",
]


def secrets_in(text: str) -> list[str]:
    return [found for pattern in SECRETS for found in re.findall(pattern, text, re.MULTILINE)]


def test_no_secret_is_in_the_repository() -> None:
    """S60."""
    listed = subprocess.run(
        [program("git"), "ls-files", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        lacks("this is not a clone, so the files of the repository are unknown")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    found = {
        str(file.relative_to(ROOT)): secrets
        for file in files
        if (secrets := secrets_in(file.read_text(encoding="utf-8", errors="replace")))
    }
    record(
        "No file of the repository contains text in the form of a secret.",
        n=len(files),
        failures=len(found),
    )
    assert found == {}


def test_a_secret_is_noticed() -> None:
    """The twin of the test above."""
    made_up = "0" * 60
    for text in (
        "-----BEGIN EC " + "PRIVATE KEY-----",
        "ott_" + made_up,
        f"eyJ{made_up}.eyJ{made_up}.{made_up}",
        f"postgresql://ana:{made_up}@db/app",
        f"secret_key={made_up}",
        f"DB_PASSWORD='{made_up}'",
    ):
        assert len(secrets_in(text)) == 1, text
