"""A stand-in for `random.uniform`, for tests that want exact pauses."""

from __future__ import annotations


class Dice:
    """A `random.uniform` that always rolls the same share, and remembers between what."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.asked: list[tuple[float, float]] = []

    def __call__(self, low: float, high: float) -> float:
        self.asked.append((low, high))
        return low + (high - low) * self.share
