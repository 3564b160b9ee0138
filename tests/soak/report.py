"""What a soak prints, and the promises that can only be judged over the whole of it."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.soak.account import Account
from tests.soak.sessions import Sessions
from tests.soak.vitals import LONGEST_BLOCK, MEBIBYTE, Memory, Vitals

MOST_GROWN = 12 * MEBIBYTE
"""Bytes of resident memory, which follows the open waits: a few kilobytes each, of which a quarter may have a thousand
more than another. In ten minutes this is less than 100 bytes for each wait that was opened between the two.
"""

MOST_OBJECTS = 0.25
"""The share by which objects may grow. Quarters of a minute differ by up to a sixth, as the mix of waits does."""

MOST_LEFT = 30_000
"""Objects that may be left at the end. Some 7,000 to 16,000 are, after one minute as after ten: caches and modules.
In a minute 20,000 waits are opened, in ten 250,000: so this leaves one and a half for each, or one for every eighth.
"""


def account_of(account: Account, sessions: Sessions, vitals: Vitals, memory: Memory, report: Mapping[str, Any]) -> str:
    """Judge the whole, and return the account."""
    judge(account, sessions, vitals, memory, report)
    soak, block = account.soak, vitals.block
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
        f"memory growth, second quarter to last: {mebibytes(memory.grown)}; objects: {memory.objects:+.1%}",
        f"objects left when all is closed: {memory.left:,} of {MOST_LEFT:,} allowed",
        f"longest block: {milliseconds(block.own)} of processor time, {vitals.blocked_at:.0f} s from the beginning",
        f"with garbage collections: {milliseconds(block.busy)}; by the clock: {milliseconds(block.seconds)}",
    ]
    return "\n".join(lines)


def verdict_of(account: Account, again: str) -> str:
    """Say at last whether all held.

    Args:
        account: What was found, once all was judged.
        again: The command that soaks in this way again.
    """
    if not account.breaches:
        return "KEPT: every wait ended once, and no promise was broken"
    return "\n- ".join([f"BROKEN: {account.breaches:,} times; `{again}`", *account.broken])


def judge(account: Account, sessions: Sessions, vitals: Vitals, memory: Memory, report: Mapping[str, Any]) -> None:
    """Find broken promises."""
    if report["requests"] > sessions.requests:
        account.breach(f"{report['requests']} requests arrived, and {sessions.requests} were sent")
    for words in report["complaints"]:
        account.breach(f"the service, {words}")
    # The head of a 429 tells enough, whatever becomes of its body; the service counts those that it sent as a whole.
    cut = sum(name in {"Slow", "Reset midway"} for _, _, _, name in report["faults"])
    if sessions.throttled > report["throttled"] + cut:
        account.breach(f"{sessions.throttled} 429s were counted, and {report['throttled']} sent")
    if vitals.block.own > LONGEST_BLOCK:
        account.breach(f"the event loop was blocked for {vitals.block.own:.3f} s of processor time")
    if memory.grown > MOST_GROWN or memory.objects > MOST_OBJECTS or memory.left > MOST_LEFT:
        account.breach(f"memory was not flat: {memory}")


def mebibytes(size: float) -> str:
    """Return a size."""
    return f"{size / MEBIBYTE:.1f} MiB"


def milliseconds(seconds: float) -> str:
    """Return a short time."""
    return f"{seconds * 1e3:.1f} ms"


def listed(counts: Mapping[str, int]) -> str:
    """Return counts in a line."""
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) or "none"
