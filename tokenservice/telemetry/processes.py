"""Memory, time and descriptors of gunicorn's processes in sum, as Linux reports them.

The collector of prometheus_client knows one process, and that is any of the workers here.
"""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

PROC = Path("/proc")
PSS = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)
BOOTED = re.compile(r"^btime (\d+)", re.MULTILINE)
#: The fields of /proc/<pid>/stat behind the name: the times of a process in ticks, those of its
#: children that have ended, and its start.
USER, SYSTEM, ENDED_USER, ENDED_SYSTEM, STARTED = 11, 12, 13, 14, 19


class Processes:
    """The main process and its workers; or this process, where gunicorn does not run it."""

    def collect(self) -> Iterable[Metric]:
        is_worker = os.environ.get("METRICS_MASTER") == str(os.getppid())
        main = os.getppid() if is_worker else os.getpid()
        workers = children(main)
        if not (PROC / str(main)).exists():
            return
        # With the times of the workers that have ended, or the sum would fall with each.
        times = [(USER, SYSTEM, ENDED_USER, ENDED_SYSTEM)] + [(USER, SYSTEM)] * len(workers)
        pids = [main, *workers]
        ticks = sum(
            sum(int(fields[place]) for place in places)
            for pid, places in zip(pids, times, strict=True)
            for fields in stat(pid)
        )
        hertz = os.sysconf("SC_CLK_TCK")
        name = "token_service_process_"
        yield CounterMetricFamily(
            f"{name}cpu_seconds", "Processor time of all processes, ended ones too", ticks / hertz
        )
        yield GaugeMetricFamily(
            f"{name}resident_memory_bytes",
            "Memory of all processes, each shared page once",
            sum(map(memory, pids)),
        )
        yield GaugeMetricFamily(
            f"{name}open_fds", "Open descriptors of all processes", sum(map(descriptors, pids))
        )
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        yield GaugeMetricFamily(f"{name}max_fds", "Descriptors that each may open", limit)
        booted = BOOTED.search((PROC / "stat").read_text())
        for fields in stat(main):
            started = int(fields[STARTED]) / hertz + (int(booted[1]) if booted else 0)
            yield GaugeMetricFamily(
                f"{name}start_time_seconds", "Start of the main process, since 1970", started
            )
        yield GaugeMetricFamily("token_service_workers", "Worker processes", len(workers))


def children(pid: int) -> list[int]:
    """The child processes of ``pid``."""
    with suppress(OSError):
        return [int(each) for each in (PROC / f"{pid}/task/{pid}/children").read_text().split()]
    return []


def stat(pid: int) -> Iterator[list[str]]:
    """The fields behind the name of the process, if it is still there."""
    with suppress(OSError):
        yield (PROC / f"{pid}/stat").read_text().rpartition(")")[2].split()


def memory(pid: int) -> int:
    """The bytes that a process has in memory, with its share of what others have too."""
    with suppress(OSError):
        found = PSS.search((PROC / f"{pid}/smaps_rollup").read_bytes())
        return int(found[1]) * 1024 if found else 0
    return 0


def descriptors(pid: int) -> int:
    with suppress(OSError):
        return sum(1 for _ in (PROC / f"{pid}/fd").iterdir())
    return 0
