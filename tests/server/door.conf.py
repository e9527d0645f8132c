"""gunicorn.conf.py of a service with the door of doors.py, and with little patience."""

from pathlib import Path

exec((Path(__file__).parents[2] / "gunicorn.conf.py").read_text())  # noqa: S102 - first of all

from tokenservice.server import connection  # noqa: E402

wsgi_app = "tests.server.doors:app"
connection.REQUEST_SECONDS = connection.READER_SECONDS = 2.0
connection.READER_RATE = 10_000_000
