"""The worker, between two requests of a connection."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Iterator

import pytest
from flask import Flask
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import TConn

from tokenservice.server.worker import Worker

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: service\r\n\r\n"


@pytest.fixture
def worker(app: Flask) -> Iterator[Worker]:
    """A started worker whose loop does not run."""
    cfg = Config()
    worker = Worker(1, os.getpid(), [], app, 30, cfg, Logger(cfg))
    worker.wsgi = app
    worker.tpool = worker.get_thread_pool()
    worker.poller = selectors.DefaultSelector()
    worker.method_queue.init()
    yield worker
    worker.tpool.shutdown()
    worker.method_queue.run_callbacks(None)
    worker.murder_keepalived(force=True)
    assert not worker.nr_conns
    worker.poller.close()
    worker.method_queue.close()
    worker.tmp.close()


def keep(worker: Worker, seconds: float) -> socket.socket:
    """A client whose idle connection is kept for ``seconds``."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=30)
        accepted, address = listener.accept()
        conn = TConn(worker.cfg, accepted, address, listener.getsockname())
    conn.init()
    conn.set_timeout()
    conn.timeout += seconds - worker.cfg.keepalive
    worker.nr_conns += 1
    worker.keepalived_conns.append(conn)
    worker.poller.register(accepted, selectors.EVENT_READ)
    return client


def test_a_request_of_the_last_moment_gets_a_response(worker: Worker) -> None:
    """Guard: ``Worker.murder_keepalived``. gunicorn's own closes the connection unread."""
    with keep(worker, -1) as idle, keep(worker, -1) as asks, keep(worker, 60):
        asks.sendall(REQUEST)
        worker.murder_keepalived()
        assert asks.recv(100).startswith(b"HTTP/1.1 200 ")
        assert idle.recv(100) == b""
        assert len(worker.keepalived_conns) == 1
