"""How gunicorn runs the service: workers that share nothing, so a crash takes only its own."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger
from prometheus_client import multiprocess, values

from config import Config, ConfigError

# Where files of this process are kept in memory. On a disk they could stall or fill up, and
# whoever tidies /tmp would take those of a service that has run for long.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108

# Metrics are files that the workers write and any of them sums up. They are kept by worker
# number, not by pid, or every worker that ever died would leave its files behind. Both must be
# settled before the package, and with it each metric, is imported. On a HUP this file is read
# again, into another module of the same name; what was settled stays, and finds the number there.
slot: int | str = "master"
if os.environ.get("METRICS_MASTER") != str(os.getpid()):
    os.environ["METRICS_MASTER"] = str(os.getpid())
    files = tempfile.mkdtemp(prefix="token-service-metrics-", dir=MEMORY)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = files
    values.ValueClass = values.MultiProcessValue(lambda: sys.modules[__name__].slot)
    Path(files, "accepting").touch()

from tokenservice.telemetry import logs  # noqa: E402


class OwnLines(Logger):
    """gunicorn's logger, which would format a line for each request whoever reads it."""

    def access(self, *_: Any) -> None:
        """Each answer has its line already."""


# Argon2 takes 19 MiB for each hash. glibc gives them back to the system once, and keeps them, in
# each worker, from the second hash on; unless it is told what is large. Others have no mallopt.
M_MMAP_THRESHOLD, LARGE = -3, 1 << 20
with contextlib.suppress(AttributeError, OSError, TypeError):
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)

try:
    Config.in_force = Config.from_env()
except ConfigError as error:
    if Config.in_force is None:
        sys.exit(str(error))
    # A mistake in .env must not end what serves.
    logging.getLogger("gunicorn.error").error("The settings stay as they were. %s", error)
settings = Config.in_force

wsgi_app = "wsgi:app"
bind = "0.0.0.0:8000"
workers = settings.web_concurrency
worker_class = "tokenservice.server.worker.Worker"
threads = settings.web_threads
timeout = 30
graceful_timeout = 30
# The control socket would let whoever is this user stop the service, and needs a writable home.
control_socket_disable = True
# The compiled parser is picked up silently when present and frames some requests differently.
http_parser = "python"
# A proxy on this machine hands on SCRIPT_NAME as it comes, and whoever sends it could turn a path
# that the proxy lets through into one that it keeps for itself.
forwarder_headers = ""
worker_tmp_dir = MEMORY  # A heartbeat on a disk that stalls would get a healthy worker killed.
logconfig_dict = logs.dict_config(settings.log_level)
logger_class = OwnLines

OVERLAP_SECONDS = 3


def when_ready(server: Any) -> None:
    """Leave in two steps on SIGTERM: first /readyz says so, and only then the sockets close.

    Otherwise what a proxy sends in between is reset with them.
    """

    def announce(*_: Any) -> None:
        signal.signal(signal.SIGTERM, server.signal)  # A second one is obeyed at once.
        # Taken away, not put there: that works on a full disk too.
        Path(os.environ["PROMETHEUS_MULTIPROC_DIR"], "accepting").unlink(missing_ok=True)
        signal.alarm(settings.drain_seconds)

    if settings.drain_seconds:
        signal.signal(signal.SIGALRM, lambda *_: server.signal(signal.SIGTERM, None))
        signal.signal(signal.SIGTERM, announce)


def on_reload(server: Any) -> None:
    """Let the new workers of a SIGHUP start before the old ones are told to stop.

    gunicorn tells them at once, and then nobody answers for as long as a start takes. Under load
    that is seconds, and what has come meanwhile makes it more.
    """

    def end_the_old_ones() -> None:
        del server.manage_workers
        time.sleep(OVERLAP_SECONDS)
        server.manage_workers()

    server.manage_workers = end_the_old_ones


def pre_fork(server: Any, worker: Any) -> None:
    """Give each worker the lowest number that no living worker has."""
    taken = {other.slot for other in server.WORKERS.values()}
    worker.slot = next(number for number in range(len(taken) + 1) if number not in taken)


def post_fork(server: Any, worker: Any) -> None:
    global slot  # noqa: PLW0603 - it is this process's own number
    slot = worker.slot


def child_exit(server: Any, worker: Any) -> None:
    multiprocess.mark_process_dead(worker.slot)


def on_exit(server: Any) -> None:
    shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
