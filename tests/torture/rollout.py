"""A Deployment and its Service, carried out with real processes as Kubernetes does.

From the manifests come the probes, ``maxSurge`` and ``maxUnavailable``, the grace period, and the
environment of a container. The Service sends each connection to a random pod that is ready, and
hears late that one ends.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.stage.proxy import Proxy
from tests.stage.service import Service
from tests.torture.manifests import Manifests, Object, container_of

#: The time for a pod to become ready, after its start.
READY_SECONDS = 60


class Pod(Service):
    """A gunicorn in the place of a pod, up once its startup probe succeeds."""

    def __init__(self, pod: Object, environment: dict[str, str], log: Path, root: Path) -> None:
        super().__init__(environment, log, root)
        self._container = container_of(pod)

    def _wait(self) -> None:
        probe = self._container["startupProbe"]
        for _ in range(probe["failureThreshold"]):
            if self.passes("startupProbe"):
                return
            time.sleep(probe["periodSeconds"])
        raise AssertionError("it did not start: " + self.log.read_text())

    def passes(self, name: str) -> bool:
        """Whether a probe succeeds now."""
        probe = self._container[name]
        url = f"{self.url}{probe['httpGet']['path']}"
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(url, timeout=probe.get("timeoutSeconds", 1)).status_code < 400
        return False


class Rollout:
    """The pods of a Deployment, and the Service before them; a context manager.

    :param replicas: the number of pods
    :param lag: the seconds in which the Service still sends connections to a pod that ends
    :ivar killed: the pods that outlived their grace period
    """

    def __init__(self, manifests: Manifests, replicas: int, lag: float) -> None:
        spec = manifests.named("Deployment")["spec"]
        strategy = spec["strategy"]["rollingUpdate"]
        self._most = replicas + strategy["maxSurge"]
        self._fewest = replicas - strategy["maxUnavailable"]
        self._grace = spec["template"]["spec"]["terminationGracePeriodSeconds"]
        container = container_of(manifests.serve)
        self._period = container["readinessProbe"]["periodSeconds"]
        self._replicas, self._lag = replicas, lag
        self._pods: list[Pod] = []
        self._known: list[Pod] = []
        self._ending: list[Future[None]] = []
        self._changing = threading.Lock()
        self._threads = ThreadPoolExecutor(self._most)
        self.killed = 0
        self.service = Proxy(self._any_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service.port}"

    def __enter__(self) -> Rollout:
        self.service.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for pod in self._pods:
            for _ in "ab":  # At the second SIGTERM it does not go on serving.
                pod.process.send_signal(signal.SIGTERM)
                time.sleep(0.1)
        for pod in self._pods:
            pod.process.wait(self._grace)
        self._threads.shutdown()
        self.service.__exit__()

    def roll(self, make: Callable[[], Pod]) -> None:
        """Replace all pods by new ones, and wait until they serve; the first time, start them."""
        old, new = self._pods[:], list[Pod]()
        while old or len(new) < self._replicas:
            if len(new) < self._replicas and len(old) + len(new) < self._most:
                new.append(self._start(make()))
            while old and len(self._pods) > self._fewest:
                self._end(old.pop(0))

    def settle(self) -> None:
        """Wait until the pods that end have ended."""
        for ending in self._ending:
            ending.result()

    def _start(self, pod: Pod) -> Pod:
        """Start a pod, and let the Service know it once it is ready."""
        pod.__enter__()
        self._pods.append(pod)
        deadline = time.monotonic() + READY_SECONDS
        while not pod.passes("readinessProbe"):
            time.sleep(self._period)
            assert time.monotonic() < deadline, pod.log.read_text()
        with self._changing:
            self._known.append(pod)
        return pod

    def _end(self, pod: Pod) -> None:
        self._pods.remove(pod)
        pod.process.send_signal(signal.SIGTERM)
        self._ending.append(self._threads.submit(self._see_off, pod))

    def _see_off(self, pod: Pod) -> None:
        time.sleep(self._lag)
        with self._changing:
            self._known.remove(pod)
        try:
            pod.process.wait(self._grace - self._lag)
        except subprocess.TimeoutExpired:
            self.killed += 1
            pod.process.kill()
            pod.process.wait()

    def _any_port(self) -> int:
        with self._changing:
            return secrets.choice(self._known).port
