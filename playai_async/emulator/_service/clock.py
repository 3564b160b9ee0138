"""How far a time read from the loop's clock can be trusted. Nothing here reads one."""

from typing import Final

CLOCK_TOLERANCE: Final = 1e-6
"""Seconds by which a timer may fire ahead of its instant: float rounding, and the loop's own resolution.

What is due at an instant counts as due this much earlier, lest a client that slept until then be too early.
"""
