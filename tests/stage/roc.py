"""The area under the ROC curve: how well the times of two kinds of call tell them apart.

0.5 means not at all, 1 always. It is the Mann-Whitney statistic over the product of both counts.
"""

from __future__ import annotations


def area(one: list[float], other: list[float]) -> float:
    """The area under the curve of two kinds of call: 0.5 to 1."""
    ordered = sorted([(seconds, 0) for seconds in one] + [(seconds, 1) for seconds in other])
    ranks = sum(rank for rank, (_, kind) in enumerate(ordered, 1) if kind == 0)
    share = (ranks - len(one) * (len(one) + 1) / 2) / (len(one) * len(other))
    return max(share, 1 - share)


def areas(times: dict[str, list[float]]) -> dict[str, float]:
    """The area of each kind against the first."""
    (_, first), *others = times.items()
    return {name: area(first, other) for name, other in others}
