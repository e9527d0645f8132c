"""gunicorn.conf.py of a service that counts as many do: it reads, adds, and writes."""

from pathlib import Path

exec((Path(__file__).parents[2] / "gunicorn.conf.py").read_text())  # noqa: S102 - first of all

from tokenservice import limits  # noqa: E402


def add(self: limits.Counters, key: str, seconds: int, amount: int) -> tuple[int, float]:
    client = self._count.connection.client
    count = int(client.get(limits.KEY_PREFIX + key) or 0) + amount
    client.set(limits.KEY_PREFIX + key, count, ex=seconds)
    return count, seconds


limits.Counters.add = add
