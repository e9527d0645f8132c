"""Logs and metrics."""

from __future__ import annotations

from flask import Flask

from config import Config
from tokenservice.telemetry import logs, metrics


def init_app(app: Flask, config: Config) -> None:
    """Before every other room: it times and names each request."""
    logs.configure(config.log_level)
    logs.init_app(app)
    metrics.init_app(app)
