"""gunicorn.conf.py of a service that refuses nothing on top of llhttp."""

import re
from pathlib import Path

exec((Path(__file__).parents[2] / "gunicorn.conf.py").read_text())  # noqa: S102 - first of all

from tokenservice.server import framing  # noqa: E402

framing.REQUEST_LINE = re.compile(rb"[^\n]*\n")
framing.judge = lambda request, _: int(request.get(b"content-length") or 0)
