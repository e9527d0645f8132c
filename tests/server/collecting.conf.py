"""gunicorn.conf.py of workers in which the garbage collector has run in full, as in old ones."""

import gc
from pathlib import Path
from typing import Any

exec((Path(__file__).parents[2] / "gunicorn.conf.py").read_text())  # noqa: S102 - first of all


def post_worker_init(_: Any) -> None:
    gc.collect()
