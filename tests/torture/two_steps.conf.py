"""gunicorn.conf.py of a service with a racy counter: it reads, adds, and writes in two steps."""

from pathlib import Path

exec((Path(__file__).parents[2] / "gunicorn.conf.py").read_text())  # noqa: S102 - first of all

from tokenservice.web import counters  # noqa: E402


def add(self: counters.Counters, key: str, seconds: int, _: int) -> tuple[int, float]:
    client, key = self._count.connection.client, counters.KEY_PREFIX + key
    count = int(client.get(key) or 0) + 1
    client.set(key, count, ex=seconds)
    return count, seconds


counters.Counters.add = add
