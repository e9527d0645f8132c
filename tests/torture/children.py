"""Child processes: work that shares no interpreter with the test that measures it."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from typing import Any


class Child:
    """A process that works until ``end``."""

    def __init__(self, work: Callable[..., Any], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")  # fork copies locks that threads hold
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=self._run, args=(theirs, work, *args), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()  # The process is up and begins.

    @staticmethod
    def _run(pipe: Pipe, work: Callable[..., Any], *args: Any) -> None:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        pipe.send(None)
        pipe.send(work(pipe, *args))

    def end(self) -> Any:
        """End the process. :returns: the result of its work"""
        self._pipe.send(None)
        return self.result()

    def result(self) -> Any:
        """Wait until the process ends by itself. :returns: the result of its work"""
        result = self._pipe.recv()
        self._process.join()
        self._pipe.close()
        return result

    def kill(self) -> None:
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()


@contextmanager
def child(work: Callable[..., Any], *args: Any) -> Iterator[Child]:
    running = Child(work, *args)
    try:
        yield running
    finally:
        running.kill()
