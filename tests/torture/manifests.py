"""The manifests of deploy/kubernetes as kubectl renders them, and the containers in them."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.docs.pages import blocks, read
from tests.stage.paths import ROOT
from tests.stage.programs import lacks
from tests.torture import deployed

KUBERNETES = ROOT / "deploy" / "kubernetes"
PAGE = "docs/kubernetes.md"
Object = dict[str, Any]
#: The content of each secret, by its name and key.
Secrets = Mapping[str, Mapping[str, str]]


def kubectl(*words: str | Path, folder: Path = ROOT) -> str:
    """The output of kubectl, which knows no cluster.

    :raises AssertionError: it failed
    """
    program = Path(sys.prefix, "bin", "kubectl")
    if not program.exists():
        lacks("kubectl is not installed")
    done = subprocess.run(
        [program, *words],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": "/nowhere", "KUBECONFIG": os.devnull},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Manifests:
    """The objects that ``kubectl apply -k`` would send."""

    def __init__(self, folder: Path = KUBERNETES) -> None:
        self.objects: list[Object] = list(yaml.safe_load_all(kubectl("kustomize", folder)))

    def named(self, kind: str, name: str = "token-service") -> Object:
        [found] = [
            one
            for one in self.objects
            if one["kind"] == kind and one["metadata"]["name"].startswith(name)
            # A ConfigMap has a hash behind its name.
            if kind == "ConfigMap" or one["metadata"]["name"] == name
        ]
        return found

    @property
    def serve(self) -> Object:
        """The pods of the Deployment."""
        template: Object = self.named("Deployment")["spec"]["template"]
        return template

    @property
    def migrate(self) -> Object:
        """The pod of the Job."""
        template: Object = self.named("Job", "token-service-migrate")["spec"]["template"]
        return template

    @property
    def pods(self) -> list[Object]:
        return [self.serve, self.migrate]

    def environment(self, pod: Object, secrets: Secrets, root: Path) -> dict[str, str]:
        """The environment of a container, and the files of its secrets, below ``root``.

        :raises AssertionError: it names an object or a key that is missing
        """
        spec, container = pod["spec"], container_of(pod)
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for mount in container["volumeMounts"]:
            if not (secret := volumes[mount["name"]].get("secret")):
                continue
            content = secrets[secret["secretName"]]
            keys = [item["key"] for item in secret.get("items", [])] or content
            folder = Path(f"{root}{mount['mountPath']}")
            folder.mkdir(parents=True, exist_ok=True)
            for key in keys:
                (folder / key).write_text(content[key])
        given = {}
        for source in container["envFrom"]:
            name = source["configMapRef"]["name"]
            given |= self.named("ConfigMap", name)["data"]
        given |= {one["name"]: one["value"] for one in container["env"]}
        return {
            name: f"{root}{value}" if name.endswith("_file") else value
            for name, value in given.items()
        }


def container_of(pod: Object) -> Object:
    container: Object
    [container] = pod["spec"]["containers"]
    return container


def secrets_of(postgres: deployed.Postgres, redis: deployed.Redis) -> Secrets:
    """The secrets of docs/kubernetes.md for these stores."""
    return {
        "token-service": {
            "secret_key": secrets.token_urlsafe(48),
            "metrics_token": secrets.token_urlsafe(48),
            "db_password": postgres.app_password,
            "redis_password": redis.password,
        },
        # Any: pg_hba.conf asks the owner for none on loopback.
        "token-service-owner": {"db_password": "any"},
    }


def run_job(
    pod: Object, environment: Mapping[str, str], root: Path
) -> subprocess.CompletedProcess[str]:
    """Run the command of a pod, with the code in ``root``."""
    return subprocess.run(
        [sys.executable, "-m", *container_of(pod)["command"]],
        cwd=root,
        env={"PATH": os.environ["PATH"], "FLASK_SKIP_DOTENV": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def production(folder: Path) -> Path:
    """The kustomization of docs/kubernetes.md, beside a copy of the manifests."""
    shutil.copytree(KUBERNETES, folder / "token-service" / "deploy" / "kubernetes")
    text = next(text for text in blocks(read(PAGE), "yaml") if "kind: Kustomization" in text)
    return kustomization(folder / "production", text)


def kustomization(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(text, encoding="utf-8")
    return folder
