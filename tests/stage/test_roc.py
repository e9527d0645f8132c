"""The area under the ROC curve."""

from __future__ import annotations

from tests.stage.roc import area


def test_the_area_is_that_of_the_curve() -> None:
    """All apart, mixed evenly, and one pair of four against the order."""
    assert area([1.0, 2.0], [3.0, 4.0]) == area([3.0, 4.0], [1.0, 2.0]) == 1
    assert area([1.0, 4.0], [2.0, 3.0]) == 0.5
    assert area([1.0, 3.0], [2.0, 4.0]) == 0.75
