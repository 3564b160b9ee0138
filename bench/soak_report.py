"""What a soak prints, and the promises that can only be judged over the whole of it."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from bench.soak_account import Account
from bench.soak_sessions import Sessions
from bench.soak_vitals import LONGEST_BLOCK, MEBIBYTE, Growth, Sample, Vitals, peak

MOST_GROWTH = 12 * MEBIBYTE
MOST_SHARE = 0.15


@attrs.frozen
class Memory:
    """What the process held."""

    peak: int
    growth: Growth

    @classmethod
    def of(cls, samples: Sequence[Sample], seconds: float) -> Memory:
        """Take what was sampled over so many seconds."""
        return cls(peak(), Growth.of(list(samples), seconds))


def account_of(account: Account, sessions: Sessions, vitals: Vitals, memory: Memory, report: Mapping[str, Any]) -> str:
    """Judge the whole, and return the account."""
    judge(account, sessions, vitals, memory, report)
    soak, block, growth = account.soak, vitals.block, memory.growth
    waits = [sample.waits for sample in vitals.samples if sample.at < soak.stormy]
    faults = Counter(name for _, _, _, name in report["faults"])
    lines = [
        f"seed {soak.seed}, {soak.seconds:g} s, {sessions.opened} sessions",
        f"waits open: {max(waits):,} at most, {statistics.median(waits):,.0f} in the median",
        "",
        account.table(),
        "",
        f"errors: {listed(account.errors)}",
        f"requests: {sessions.requests:,} sent, {report['requests']:,} arrived",
        f"429s: {sessions.throttled:,}; transient failures: {sessions.transient:,}",
        f"faults met: {faults.total():,}: {listed(faults)}",
        f"restarts: {report['restarts']}; quota changes: {len(report['quotas'])}; files whole: {account.whole_files:,}",
        f"peak memory: {mebibytes(memory.peak)}",
        f"memory growth: {mebibytes(growth.resident)}; {growth.blocks:,.0f} objects ({growth.share:.1%})",
        f"longest block: {milliseconds(block.own)} of processor time, {vitals.blocked_at:.0f} s from the beginning",
        f"with garbage collections: {milliseconds(block.busy)}; by the clock: {milliseconds(block.seconds)}",
    ]
    return "\n".join(lines)


def judge(account: Account, sessions: Sessions, vitals: Vitals, memory: Memory, report: Mapping[str, Any]) -> None:
    """Find broken promises."""
    if report["requests"] > sessions.requests:
        account.breach(f"{report['requests']} requests arrived, and {sessions.requests} were sent")
    if sessions.throttled > report["throttled"]:
        account.breach(f"{sessions.throttled} 429s were counted, and {report['throttled']} sent")
    if vitals.block.own > LONGEST_BLOCK:
        account.breach(f"the event loop was blocked for {vitals.block.own:.3f} s of processor time")
    if memory.growth.resident > MOST_GROWTH or memory.growth.share > MOST_SHARE:
        account.breach(f"memory was not flat: {memory.growth}")


def mebibytes(size: float) -> str:
    """Return a size."""
    return f"{size / MEBIBYTE:.1f} MiB"


def milliseconds(seconds: float) -> str:
    """Return a short time."""
    return f"{seconds * 1e3:.1f} ms"


def listed(counts: Mapping[str, int]) -> str:
    """Return counts in a line."""
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) or "none"
