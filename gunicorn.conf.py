"""Configuration of gunicorn: workers share nothing, so a crash ends one worker only."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import dataclasses
import fcntl
import gc
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
from prometheus_client import values

from config import VERSION, Config
from settings.environment import ConfigError

# Directory for files in memory. On a disk they could stall or fill it up, and a /tmp cleaner would
# delete the files of a long-running service.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
FOLDER = "token-service-files-"
# A folder is not locked yet at the moment when it is made.
NEW_SECONDS = 60
# The files of one worker and their size, which no set of labels outgrows. A written page without
# room in memory would end the process by SIGBUS, so all of them are taken when a service starts.
METRICS = {"counter": 5 << 15, "gauge_livesum": 1 << 12, "histogram": 1 << 18}


def take_room(directory: str, number: int | str) -> None:
    """Fill the files of a worker's metrics with zeros, which are read as no metrics.

    :raises OSError: there is no room
    """
    for kind, size in METRICS.items():
        path = Path(directory, f"{kind}_{number}.db")
        try:
            with path.open("ab") as file:
                file.write(bytes(max(0, size - file.tell())))
        except OSError:
            path.unlink(missing_ok=True)  # A part of a file could not be read as metrics.
            raise


def take_folder(workers: int) -> str:
    """A folder with room for all workers, and for as many new ones beside them at a reload."""
    places = dict.fromkeys([MEMORY or tempfile.gettempdir(), tempfile.gettempdir()])
    for place in places:
        directory = None
        try:
            remove_leftovers(place)
            directory = tempfile.mkdtemp(prefix=FOLDER, dir=place)
            atexit.register(remove, directory, os.getpid())
            # Held until the last process of this service ends.
            fcntl.flock(os.open(directory, os.O_RDONLY), fcntl.LOCK_SH)
            for number in ("master", *range(2 * workers)):
                take_room(directory, number)
        except OSError:
            if directory:
                shutil.rmtree(directory, ignore_errors=True)
        else:
            return directory
    sys.exit(
        f"No room for the files of {workers} workers, {sum(METRICS.values()) >> 10} KiB for each "
        f"and as much for a reload, in {' nor in '.join(places)}."
    )


def remove_leftovers(place: str) -> None:
    """Remove the folders of services that were killed: no process holds their lock."""
    for folder in Path(place).glob(FOLDER + "*"):
        with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
            lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
            opened.callback(os.close, lock)
            if time.time() - os.fstat(lock).st_mtime > NEW_SECONDS:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)


def remove(directory: str, pid: int) -> None:
    """Remove a folder at the end of its process, but not at the end of a fork."""
    if os.getpid() == pid:
        shutil.rmtree(directory, ignore_errors=True)


# Argon2 allocates 19 MiB for each hash. glibc returns them to the system once and keeps them, in
# each worker, from the second hash on, unless a threshold is set. Other libcs have no mallopt.
M_MMAP_THRESHOLD, LARGE = -3, 1 << 20
with contextlib.suppress(AttributeError, OSError, TypeError):
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)

settings_before = Config.in_force
try:
    Config.in_force = Config.from_env()
except ConfigError as error:
    if Config.in_force is None:
        sys.exit(str(error))
    # An error in .env must not end a running service.
    logging.getLogger("gunicorn.error").error("The settings stay as they were. %s", error)
settings = Config.in_force

# Metrics are files that the workers write and any worker sums up. They are named by worker number,
# not by pid, or each dead worker would leave its files behind. Directory and naming must be set
# before the package, and with it each metric, is imported. SIGHUP reads this file again, into
# another module of the same name: both stay as set, and the number is looked up in that module.
slot: int | str = "master"
workers = settings.web_concurrency
if os.environ.get("METRICS_MASTER") != str(os.getpid()):
    os.environ["METRICS_MASTER"] = str(os.getpid())
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = take_folder(workers)
    values.ValueClass = values.MultiProcessValue(lambda: sys.modules[__name__].slot)
    Path(os.environ["PROMETHEUS_MULTIPROC_DIR"], "accepting").touch()
else:
    try:
        for number in range(2 * workers):
            take_room(os.environ["PROMETHEUS_MULTIPROC_DIR"], number)
    except OSError as error:
        workers = number // 2
        logging.getLogger("gunicorn.error").error(
            "There is room for the files of %s workers and no more. %s", workers, error.strerror
        )

from tokenservice.server.listeners import is_loopback  # noqa: E402
from tokenservice.telemetry import logs, traces  # noqa: E402


class OwnLines(Logger):
    """gunicorn's logger without its access log."""

    def access(self, *_: Any) -> None:
        """Do nothing: the service logs each response itself."""


# Loaded here, so that the workers share it.
exporting = traces.module("exporting")

wsgi_app = "wsgi:app"
bind = "0.0.0.0:8000"
worker_class = "tokenservice.server.worker.Worker"
threads = settings.web_threads
# A connection takes a few kilobytes. Beyond these, the one that is idle for longest is closed.
worker_connections = 4096
timeout = 30
graceful_timeout = 30
# The control socket would let any process of this user stop the service, and needs a writable home.
control_socket_disable = True
worker_tmp_dir = MEMORY  # With a heartbeat on a stalled disk, a healthy worker would be killed.
logconfig_dict = logs.dict_config(settings.log_level)
logger_class = OwnLines

OVERLAP_SECONDS = 3


def share_memory() -> None:
    """Let the workers share what this process has loaded, which is all modules.

    A page stays shared until it is written to, and each run of the garbage collector in a worker
    would write to all that it may free.
    """
    gc.collect()
    gc.freeze()


def unwritable() -> str:
    """The refusal of an audit trail in a file that cannot be written, or "".

    It is looked for at the start alone: later, lines that cannot be written are counted.
    """
    if settings.audit_log != "file":
        return ""
    path = Path(settings.audit_path)
    place = path if path.exists() else path.parent
    if os.access(place, os.W_OK) and not path.is_dir():
        return ""
    return f"audit_log is file, and audit_path cannot be written: {path}."


def exposure(server: Any) -> str:
    """The refusal of a sandbox that other machines reach, or "".

    The sockets decide, whichever of the settings of gunicorn they come from.
    """
    if not settings.sandbox or settings.sandbox_public:
        return ""
    reached = [str(listener) for listener in server.LISTENERS if not is_loopback(listener)]
    if not server.LISTENERS:
        reached = ["the sockets of reuse_port"]  # Each worker opens its own, later.
    if not reached:
        return ""
    return (
        f"sandbox is true, and other machines may reach {', '.join(reached)}. Bind 127.0.0.1, or "
        "set sandbox_public=true as well."
    )


def when_ready(server: Any) -> None:
    """Stop in two steps on SIGTERM: first /readyz returns 503, and only then the sockets close.

    Otherwise requests that a proxy sends in between are reset.
    """
    if refusal := exposure(server) or unwritable():
        sys.exit(refusal)
    if settings.sandbox:
        server.log.warning("The sandbox is on: its fixed tokens are accepted.")
    if hindrance := traces.hindrance():
        server.log.warning(hindrance)
    logs.configure(settings.log_level)
    logs.log.info("service.started", version=VERSION, settings=settings.shown())
    share_memory()
    directory = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    if MEMORY and not directory.is_relative_to(MEMORY):
        server.log.warning("%s has no room: the files are in %s", MEMORY, directory)

    def announce(*_: Any) -> None:
        signal.signal(signal.SIGTERM, server.signal)  # A second SIGTERM stops at once.
        # A file is removed, not created, because that works on a full disk too.
        Path(directory, "accepting").unlink(missing_ok=True)
        signal.alarm(settings.drain_seconds)

    if settings.drain_seconds:
        signal.signal(signal.SIGALRM, lambda *_: server.signal(signal.SIGTERM, None))
        signal.signal(signal.SIGTERM, announce)


def on_reload(server: Any) -> None:
    """Start the new workers of a SIGHUP before the old ones are told to stop.

    gunicorn stops the old ones at once, and no worker responds while the new ones start. Under load
    that takes seconds, and the requests that arrive meanwhile make it longer.
    """

    def end_the_old_ones() -> None:
        del server.manage_workers
        time.sleep(OVERLAP_SECONDS)
        server.manage_workers()

    server.manage_workers = end_the_old_ones
    logs.configure(settings.log_level)
    logs.log.info("service.reloaded", changed=settings.shown(settings_before))
    if refusal := exposure(server):
        Config.in_force = dataclasses.replace(settings, sandbox=False)
        server.log.error("The sandbox stays off. %s", refusal)


def pre_fork(server: Any, worker: Any) -> None:
    """Give the worker the lowest number that no living worker has."""
    taken = {other.slot for other in server.WORKERS.values()}
    worker.slot = next(number for number in range(len(taken) + 1) if number not in taken)


def post_fork(server: Any, worker: Any) -> None:
    global slot  # noqa: PLW0603 - the number of this process
    slot = worker.slot
    if exporting:
        exporting.start()  # Its thread would not survive a fork.


def worker_exit(server: Any, worker: Any) -> None:
    if exporting:
        exporting.end()


def child_exit(server: Any, worker: Any) -> None:
    """Forget what a dead worker had in use, and keep its room for the next one."""
    gauge = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"], f"gauge_livesum_{worker.slot}.db")
    with contextlib.suppress(OSError), gauge.open("r+b") as file:
        file.write(bytes(os.fstat(file.fileno()).st_size))
