"""Formats the results of a soak, and checks the promises that apply to the whole run."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.soak.account import Account
from tests.soak.sessions import Sessions
from tests.soak.vitals import MAX_BLOCK, MEBIBYTE, Memory, Vitals

MAX_GROWTH = 12 * MEBIBYTE
"""Bytes of resident memory. Each open wait takes a few kilobytes, and quarters of a run may differ by 1,000 open waits.
In ten minutes this limit is less than 100 bytes for each wait opened between the two quarters.
"""

MAX_OBJECT_GROWTH = 0.25
"""The limit for the growth of objects. Quarters of a minute differ by up to a sixth, like the mix of waits."""

MAX_LEFT = 30_000
"""Objects that may exist at the end. About 7,000 to 16,000 remain after one minute as after ten: caches and modules.
In one minute 20,000 waits are opened, in ten minutes 250,000. So the limit is 1.5 objects per wait, or 1 per 8 waits.
"""


def format_account(
    account: Account, sessions: Sessions, vitals: Vitals, memory: Memory, report: Mapping[str, Any]
) -> str:
    """Check the whole run, and return its results as text."""
    check_run(account, sessions, vitals, memory, report)
    soak, block = account.soak, vitals.block
    waits = [sample.waits for sample in vitals.samples if sample.at < soak.fault_seconds]
    faults = Counter(name for _, _, _, name in report["faults"])
    lines = [
        f"seed {soak.seed}, {soak.seconds:g} s, {sessions.opened} sessions",
        f"open waits: maximum {max(waits):,}, median {statistics.median(waits):,.0f}",
        "",
        account.table(),
        "",
        f"errors: {listed(account.errors)}",
        f"requests: {sessions.requests:,} sent, {report['requests']:,} arrived",
        f"429s: {sessions.throttled:,}; transient failures: {sessions.transient:,}",
        f"faults met: {faults.total():,} ({listed(faults)})",
        f"restarts: {report['restarts']}; quota changes: {len(report['quotas'])}",
        f"complete files: {account.whole_files:,}",
        f"memory, peak: {mebibytes(memory.peak)}",
        f"memory growth from the second to the last quarter: {mebibytes(memory.grown)}; objects: {memory.objects:+.1%}",
        f"objects left at the end: {memory.left:,}; limit: {MAX_LEFT:,}",
        f"longest block of the loop: {milliseconds(block.own)} of processor time, after {vitals.blocked_at:.0f} s",
        f"with garbage collections: {milliseconds(block.busy)}; wall time: {milliseconds(block.seconds)}",
    ]
    return "\n".join(lines)


def format_verdict(account: Account, again: str) -> str:
    """Return whether all promises held.

    Args:
        account: The checked account.
        again: The command that repeats this soak.
    """
    if not account.violations:
        return "PASSED: every wait ended exactly once, and no promise was broken"
    return "\n- ".join([f"FAILED: {account.violations:,} broken promises; repeat with `{again}`", *account.messages])


def check_run(account: Account, sessions: Sessions, vitals: Vitals, memory: Memory, report: Mapping[str, Any]) -> None:
    """Report broken promises of the whole run."""
    if report["requests"] > sessions.requests:
        account.violation(f"{report['requests']} requests arrived, but only {sessions.requests} were sent")
    for words in report["errors_logged"]:
        account.violation(f"the service, {words}")
    # A client counts a 429 by its status line, even if the body is cut off; the service counts complete responses only.
    cut = sum(name in {"Slow", "Reset midway"} for _, _, _, name in report["faults"])
    if sessions.throttled > report["throttled"] + cut:
        account.violation(f"{sessions.throttled} 429s were counted, but only {report['throttled']} were sent")
    if vitals.block.own > MAX_BLOCK:
        account.violation(f"the event loop was blocked for {vitals.block.own:.3f} s of processor time")
    if memory.grown > MAX_GROWTH or memory.objects > MAX_OBJECT_GROWTH or memory.left > MAX_LEFT:
        account.violation(f"memory grew: {memory}")


def mebibytes(size: float) -> str:
    """Format a size."""
    return f"{size / MEBIBYTE:.1f} MiB"


def milliseconds(seconds: float) -> str:
    """Format a short time."""
    return f"{seconds * 1e3:.1f} ms"


def listed(counts: Mapping[str, int]) -> str:
    """Format counts in one line."""
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) or "none"
