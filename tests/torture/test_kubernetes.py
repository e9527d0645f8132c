"""deploy/kubernetes and docs/kubernetes.md: the schemas, and each reference between two files.

No cluster is there: kubectl renders the files as it would before it sends them. test_versions.py
carries out an update by them.
"""

from __future__ import annotations

import configparser
import copy
import json
import os
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from flask import Flask

from config import Config
from settings.addresses import redis_servers
from tests.docs.pages import CODE, TWINS, blocks, read, tables
from tests.stage.paths import ROOT
from tests.torture.deployed import APP, OWNER, REDIS_USER
from tests.torture.ledger import record
from tests.torture.manifests import (
    KUBERNETES,
    PAGE,
    Manifests,
    Object,
    container_of,
    kubectl,
    kustomization,
    production,
)

VERSIONS = ("1.29", "1.37")
SERVE = {"app.kubernetes.io/name": "token-service", "app.kubernetes.io/component": "serve"}
MIGRATE = SERVE | {"app.kubernetes.io/component": "migrate"}
SECRETS = {
    "token-service": {
        name: f"the-{name}-of-more-than-32-bytes"
        for name in ("secret_key", "metrics_token", "db_password", "redis_password")
    },
    "token-service-owner": {"db_password": "the-owner's"},
}
#: The files of docs/kubernetes.md for stores elsewhere.
ELSEWHERE = {
    "token-service": SECRETS["token-service"]
    | {
        "database_url": f"postgresql://{APP}:p@db.example.com/x?sslmode=verify-full"
        "&sslrootcert=/run/secrets/token-service/ca.pem",
        "redis_url": f"rediss://{REDIS_USER}:p@redis.example.com:6380/0"
        "?ssl_ca_certs=/run/secrets/token-service/ca.pem",
        "ca.pem": "a certificate",
    },
    "token-service-owner": SECRETS["token-service-owner"]
    | {"database_url": f"postgresql://{OWNER}:p@db.example.com/x", "ca.pem": "a certificate"},
}
#: The connections that Postgres leaves to roles that are no superuser, unless told otherwise.
CONNECTIONS = 100 - 3


@pytest.fixture(scope="module")
def manifests() -> Manifests:
    return Manifests()


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    """The kustomization of the page, with its commented line."""
    folder = production(tmp_path_factory.mktemp("monitored"))
    file = folder / "kustomization.yaml"
    file.write_text(file.read_text().replace("# components:", "components:"))
    return Manifests(folder)


def settings_in(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Config:
    """The settings of a container with this environment."""
    monkeypatch.setattr(os, "environ", environment)
    return Config.from_env(Path("/nowhere/.env"))


@pytest.mark.parametrize("version", VERSIONS)
def test_each_object_is_of_the_published_schema(monitored: Manifests, version: str) -> None:
    """That of a ServiceMonitor is not published with Kubernetes."""
    assert "1.29" in read(PAGE)
    wrong = {}
    for one in monitored.objects:
        if one["kind"] == "ServiceMonitor":
            continue
        try:
            kubernetes_validate.validate(one, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            wrong[one["kind"]] = error.message
    record(
        f"Each manifest is of the schema of Kubernetes {version}.",
        n=len(monitored.objects) - 1,
        failures=len(wrong),
    )
    assert len(monitored.objects) >= 10
    assert not wrong


def test_a_misspelled_field_is_noticed(manifests: Manifests) -> None:
    """The twin of the test above."""
    wrong = copy.deepcopy(manifests.named("Deployment"))
    wrong["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenesProbe"):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def weaknesses(pod: Object, user: int) -> list[str]:
    """The freedoms that a pod leaves to a compromised process.

    :param user: that of the image
    """
    spec, container = pod["spec"], container_of(pod)
    whole, own = spec.get("securityContext", {}), container.get("securityContext", {})
    demands = {
        "it may be root": whole.get("runAsNonRoot", False),
        "it has another user than the image": whole.get("runAsUser") == user,
        "it has another group than the image": whole.get("runAsGroup") == user,
        "it may not read its secrets": whole.get("fsGroup") == user,
        "each system call is open to it": whole.get("seccompProfile") == {"type": "RuntimeDefault"},
        "it may gain privileges": own.get("allowPrivilegeEscalation", True) is False,
        "its file system is writable": own.get("readOnlyRootFilesystem", False),
        "it has capabilities": own.get("capabilities") == {"drop": ["ALL"]},
        "it may call Kubernetes": spec.get("automountServiceAccountToken", True) is False,
        "it has the default account": spec.get("serviceAccountName") == "token-service",
        "other Services name its settings": spec.get("enableServiceLinks", True) is False,
        "it may take all memory": "memory" in container.get("resources", {}).get("limits", {}),
        "it shares a namespace of the node": not {"hostNetwork", "hostPID", "hostIPC"} & set(spec),
        "a volume is of the node": all(
            set(volume) - {"name"} <= {"secret", "emptyDir"} for volume in spec.get("volumes", [])
        ),
        "a volume may take all memory": all(
            "sizeLimit" in volume.get("emptyDir", {"sizeLimit": 0})
            for volume in spec.get("volumes", [])
        ),
        "a secret is open to others": all(
            volume["secret"].get("defaultMode", 0o644) == 0o440
            for volume in spec.get("volumes", [])
            if "secret" in volume
        ),
    }
    return [weakness for weakness, met in demands.items() if not met]


def test_each_pod_is_locked_down(manifests: Manifests) -> None:
    """Guard: the securityContext of each; the user is that of the image."""
    [user] = re.findall(r"^USER (\d+):\1$", read("Dockerfile"), re.MULTILINE)
    found = [weakness for pod in manifests.pods for weakness in weaknesses(pod, int(user))]
    record(
        "Each pod is read-only, unprivileged and without capabilities.", n=2, failures=len(found)
    )
    assert not found
    bare = {"spec": {"containers": [{"name": "a"}], "hostNetwork": True}}
    assert len(weaknesses(bare, 0)) >= 12


def test_probes_ask_what_there_is(manifests: Manifests, app: Flask) -> None:
    """On the port that gunicorn.conf.py binds, and as docs/operations.md has them."""
    container = container_of(manifests.serve)
    [port] = re.findall(r'^bind = "0\.0\.0\.0:(\d+)"$', read("gunicorn.conf.py"), re.MULTILINE)
    assert re.findall(r"^EXPOSE (\d+)$", read("Dockerfile"), re.MULTILINE) == [port]
    assert container["ports"] == [{"name": "http", "containerPort": int(port)}]
    probes = {name: probe for name, probe in container.items() if name.endswith("Probe")}
    assert {name: probe["httpGet"]["path"] for name, probe in probes.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    routes = {rule.rule for rule in app.url_map.iter_rules()}
    for probe in probes.values():
        assert probe["httpGet"]["port"] == "http"
        assert probe["httpGet"]["path"] in routes
    [documented] = [text for text in blocks(read("docs/operations.md"), "yaml") if "Probe" in text]
    for name, probe in yaml.safe_load(documented.replace("8000", "http")).items():
        assert probes[name] == probe


def test_a_pod_has_the_time_to_end(manifests: Manifests) -> None:
    """For ``drain_seconds`` it goes on serving; then requests in flight have theirs."""
    found = re.findall(r"^graceful_timeout = (\d+)$", read("gunicorn.conf.py"), re.MULTILINE)
    drain = int(manifests.named("ConfigMap")["data"]["drain_seconds"])
    assert drain > 0
    assert manifests.serve["spec"]["terminationGracePeriodSeconds"] >= drain + int(found[0]) + 2
    # What gunicorn ends at SIGTERM must not have ended before.
    assert "lifecycle" not in container_of(manifests.serve)
    strategy = manifests.named("Deployment")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert "replicas" not in manifests.named("Deployment")["spec"]


def test_every_name_is_a_setting(
    manifests: Manifests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelled setting, or a path that no secret is at, turns this red."""
    names = set(Config.names())
    found = {}
    for pod, role in ((manifests.serve, APP), (manifests.migrate, OWNER)):
        root = tmp_path / role
        environment = manifests.environment(pod, SECRETS, root)
        assert {name.removesuffix("_file") for name in environment} <= names
        with monkeypatch.context() as changed:
            config = settings_in(environment, changed)
        assert config.db_user == role
        assert config.secret_key == SECRETS["token-service"]["secret_key"]
        found[role] = {path.name for path in root.rglob("*") if path.is_file()}
        if role == APP:
            served = config
    assert served.db_password == SECRETS["token-service"]["db_password"]
    assert served.metrics_token == SECRETS["token-service"]["metrics_token"]
    assert redis_servers(served.redis_address)["options"]["username"] == REDIS_USER
    # The owner's password is no secret of the service, and its own Redis none of the Job.
    assert config.db_password == SECRETS["token-service-owner"]["db_password"]
    assert found == {APP: set(SECRETS["token-service"]), OWNER: {"secret_key", "db_password"}}


def test_no_secret_is_in_a_manifest(manifests: Manifests) -> None:
    assert not [one for one in manifests.objects if one["kind"] == "Secret"]
    secret = {"secret_key", "secret_key_fallbacks", "db_password", "redis_password"}
    secret |= {"metrics_token", "database_url", "redis_url"}
    given = set(manifests.named("ConfigMap")["data"])
    given |= {one["name"] for pod in manifests.pods for one in container_of(pod)["env"]}
    assert not given & secret


def test_the_page_makes_the_secrets_that_the_pods_read(
    manifests: Manifests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own commands; of those that ask for a password, the answer is here."""
    text = "\n".join(blocks(read(PAGE), "bash"))
    files = dict.fromkeys(re.findall(r"> ((?:secrets|owner)/\w+)", text), "p" * 40)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    made = {}
    for command in re.findall(r"^kubectl (create secret .+)$", text, re.MULTILINE):
        answer = kubectl(*command.split(), "--dry-run=client", "-o", "json", folder=tmp_path)
        secret = json.loads(answer)
        made[secret["metadata"]["name"]] = dict.fromkeys(secret["data"], "p" * 40)
    assert {name: set(keys) for name, keys in made.items()} == {
        name: set(keys) for name, keys in SECRETS.items()
    }
    for pod in manifests.pods:
        with monkeypatch.context() as changed:
            settings_in(manifests.environment(pod, made, tmp_path / "root"), changed)


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def test_selectors_match_their_pods_alone(manifests: Manifests) -> None:
    labels = {
        name: pod["metadata"]["labels"] for name, pod in zip("sm", manifests.pods, strict=True)
    }
    assert labels == {"s": SERVE, "m": MIGRATE}
    spread = manifests.serve["spec"]["topologySpreadConstraints"]
    selectors = [
        manifests.named("Deployment")["spec"]["selector"]["matchLabels"],
        manifests.named("Service")["spec"]["selector"],
        manifests.named("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        manifests.named("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(one["labelSelector"]["matchLabels"] for one in spread),
    ]
    for selector in selectors:
        assert matches(selector, SERVE)
        assert not matches(selector, MIGRATE)
    other = manifests.named("NetworkPolicy", "token-service-migrate")["spec"]["podSelector"]
    assert matches(other["matchLabels"], MIGRATE)
    assert not matches(other["matchLabels"], SERVE)
    assert {one["topologyKey"].rpartition("/")[2] for one in spread} == {"hostname", "zone"}
    scaled = manifests.named("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert scaled["name"] == manifests.named("Deployment")["metadata"]["name"]
    [port] = manifests.named("Service")["spec"]["ports"]
    assert port["targetPort"] == container_of(manifests.serve)["ports"][0]["name"]
    # A pod may go where one is left.
    assert manifests.named("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert manifests.named("HorizontalPodAutoscaler")["spec"]["minReplicas"] >= 2


def test_prometheus_finds_each_pod(monitored: Manifests, app: Flask) -> None:
    service = monitored.named("Service")
    monitor = monitored.named("ServiceMonitor")["spec"]
    assert matches(monitor["selector"]["matchLabels"], service["metadata"]["labels"])
    [endpoint] = monitor["endpoints"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    assert endpoint["path"] in {rule.rule for rule in app.url_map.iter_rules()}
    credentials = endpoint["authorization"]["credentials"]
    assert credentials["key"] in SECRETS[credentials["name"]]


def openings(rules: list[Object]) -> dict[str, set[tuple[str, int]]]:
    """The ports of each peer of a policy, which is known by the one label of its namespace."""
    found: dict[str, set[tuple[str, int]]] = {}
    for rule in rules:
        for peer in rule.get("to", rule.get("from")):
            [(label, value)] = peer["namespaceSelector"]["matchLabels"].items()
            ports = {(port["protocol"], port["port"]) for port in rule["ports"]}
            found.setdefault(f"{label}={value}", set()).update(ports)
    return found


def test_the_network_lets_through_what_the_settings_need(
    manifests: Manifests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no more. The labels of the namespaces are those of the page."""
    environment = manifests.environment(manifests.serve, SECRETS, tmp_path)
    with monkeypatch.context() as changed:
        config = settings_in(environment, changed)
    database = {"token-service/postgres=true": {("TCP", config.db_port)}}
    name_service = {"kubernetes.io/metadata.name=kube-system": {("UDP", 53), ("TCP", 53)}}
    policies = [
        manifests.named("NetworkPolicy", name)["spec"]
        for name in ("token-service", "token-service-migrate")
    ]
    for policy in policies:
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        for rule in [*policy.get("ingress", []), *policy["egress"]]:
            assert rule["ports"]
            assert rule.get("to") or rule.get("from")
    serve, migrate = policies
    port = container_of(manifests.serve)["ports"][0]["containerPort"]
    asks = ("token-service/gateway=true", "token-service/prometheus=true")
    assert openings(serve["ingress"]) == {one: {("TCP", port)} for one in asks}
    assert openings(serve["egress"]) == {
        **database,
        "token-service/redis=true": {("TCP", config.redis_port)},
        **name_service,
    }
    assert "ingress" not in migrate
    assert openings(migrate["egress"]) == database | name_service
    labels = set(re.findall(r"token-service/\w+=true", read(PAGE)))
    assert labels == {
        label for label in openings(serve["ingress"] + serve["egress"]) if "true" in label
    }


def test_postgres_has_enough_connections(
    manifests: Manifests, make_app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For all workers of the most pods, and of the one more in a rolling update."""
    environment = manifests.environment(manifests.serve, SECRETS, tmp_path)
    with monkeypatch.context() as changed:
        config = settings_in(environment, changed)
    app = make_app(web_threads=config.web_threads, web_concurrency=config.web_concurrency)
    each = app.config["SQLALCHEMY_ENGINE_OPTIONS"]["pool_size"]
    most = manifests.named("HorizontalPodAutoscaler")["spec"]["maxReplicas"]
    assert (most + 1) * config.web_concurrency * each <= CONNECTIONS


def test_the_image_is_of_this_version(manifests: Manifests) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    for pod in manifests.pods:
        assert container_of(pod)["image"] == f"token-service:{setup['metadata']['version']}"
    assert container_of(manifests.migrate)["command"] == ["flask", "db", "upgrade"]


def test_every_file_is_used_and_explained() -> None:
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    used = {*listed["resources"], "kustomization.yaml", "monitoring"}
    used |= {file for one in listed["configMapGenerator"] for file in one["envs"]}
    assert {path.name for path in KUBERNETES.iterdir()} == used
    [rows] = [rows for rows in tables(read(PAGE)) if "`deployment.yaml`" in rows[1][0]]
    explained = {name.rstrip("/") for row in rows[1:] for name in CODE.findall(row[0])}
    assert explained == used - {"kustomization.yaml"}


def test_stores_elsewhere_take_the_lines_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = production(tmp_path)
    [patches] = [text for text in blocks(read(PAGE), "yaml") if text.startswith("patches:")]
    with (folder / "kustomization.yaml").open("a") as file:
        file.write(patches)
    manifests = Manifests(folder)
    for version in VERSIONS:
        for one in manifests.objects:
            kubernetes_validate.validate(one, version, strict=True)
    configs = []
    for number, pod in enumerate(manifests.pods):
        environment = manifests.environment(pod, ELSEWHERE, tmp_path / str(number))
        with monkeypatch.context() as changed:
            configs.append(settings_in(environment, changed))
    assert configs[0].sqlalchemy_url.host == configs[1].sqlalchemy_url.host == "db.example.com"
    assert [config.sqlalchemy_url.username for config in configs] == [APP, OWNER]
    assert redis_servers(configs[0].redis_address)["options"]["port"] == 6380
    for name, ports in (("token-service", {5432, 6380}), ("token-service-migrate", {5432})):
        egress = manifests.named("NetworkPolicy", name)["spec"]["egress"]
        blocked = [rule for rule in egress if "ipBlock" in rule["to"][0]]
        assert {port["port"] for rule in blocked for port in rule["ports"]} == ports


def test_another_setting_is_a_rolling_update(tmp_path: Path) -> None:
    """Its ConfigMap has another name, so the template of the pods changes."""
    first = Manifests(production(tmp_path))
    other = "resources: [../production]\nconfigMapGenerator:\n  - name: token-service\n"
    other += "    namespace: token-service\n    behavior: merge\n    literals: [log_level=debug]\n"
    second = Manifests(kustomization(tmp_path / "other", other))
    names = {one.named("ConfigMap")["metadata"]["name"] for one in (first, second)}
    assert len(names) == 2
    for one in (first, second):
        [source] = container_of(one.serve)["envFrom"]
        assert source["configMapRef"]["name"] == one.named("ConfigMap")["metadata"]["name"]
    data = second.named("ConfigMap")["data"]
    assert (data["db_host"], data["log_level"]) == ("postgres.data", "debug")


def test_both_languages_have_the_same_files() -> None:
    assert blocks(read(PAGE), "yaml") == blocks(read(TWINS[PAGE]), "yaml")
