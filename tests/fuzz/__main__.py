"""Search for replies and `Retry-After` values that break the decoder, with atheris, which is guided by code coverage.

It starts with the examples of the contract, and with inputs that earlier runs stored in `bench/out/fuzz/`. Each input
goes through the checks of `tests/fuzz/fuzzed.py`. An input that fails them ends the run with exit status 1, and is
written to a file whose name is printed. The last lines are libFuzzer's statistics: inputs tried, and code reached.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[2]
OUT = ROOT / "bench" / "out" / "fuzz"
TARGETS = ("replies", "hints")
MAX_LENGTH = {"replies": 4_096, "hints": 128}
"""Bytes. Longer inputs reach no more code, and take longer."""

WORDS = (
    *("null", "true", "NaN", "1e999", r"\\u0000", r"\\ud800", r"\xff", r"\"", "{}", "[]", "T", "Z", "+01:00", "2026-"),
    *("id", "createdAt", "completedAt", "input", "output", "status", "url", "contentType", "fileSize", "duration"),
    *("COMPLETED", "IN_PROGRESS", "FAILED", "errorMessage", "errorId"),
    *("Sun, ", "Sunday, ", " Nov ", "-Feb-", "00:00:00", " GMT", " EST", " -0000", " +2359", "9999", "1969", "68"),
)
"""Parts of inputs that are rarely found by chance."""

# This must be the first import of these modules: atheris measures the coverage of modules imported here only.
with atheris.instrument_imports(include=["playai_async", "email._parseaddr", "email.utils", "json.decoder"]):
    from tests.fuzz import fuzzed


def reply(data: bytes) -> None:
    """Read a reply to a status request, or to a creation if its status says so."""
    reply = fuzzed.reply_of(data)
    fuzzed.check_reply(reply, creates=reply.status == 201)


def hint(data: bytes) -> None:
    """Read a `Retry-After`, at one of two times, decoded like aiohttp does."""
    now = 0.0 if data[:1] == b"\0" else 784_111_777.0
    fuzzed.check_hint(data.decode("utf-8", "surrogateescape"), now=now)


def fuzz(target: str, seconds: int, seed: int) -> None:
    """Fuzz one target; does not return."""
    begin = OUT / target / "examples"
    keep = OUT / target / "found"
    for directory in (begin, keep):
        directory.mkdir(parents=True, exist_ok=True)
    examples = fuzzed.replies() if target == "replies" else fuzzed.hints()
    for number, data in enumerate(examples):
        (begin / str(number)).write_bytes(data)
    words = OUT / "words"
    words.write_text("".join(f'"{word}"\n' for word in WORDS), encoding="ascii")
    options = [
        f"-dict={words}",
        f"-max_total_time={seconds}",
        f"-max_len={MAX_LENGTH[target]}",
        f"-seed={seed}",
        f"-artifact_prefix={OUT / target}/",
        "-timeout=10",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(keep), str(begin)], reply if target == "replies" else hint)
    atheris.Fuzz()


def main() -> None:
    """Fuzz one target, or each target in a separate process."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("target", nargs="?", choices=TARGETS, help="what to fuzz; by default both, one after the other")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    options = parser.parse_args()
    if options.target is not None:
        fuzz(options.target, options.seconds, options.seed)
    for target in TARGETS:
        print(f"== {target}: {options.seconds} s", flush=True)
        command = [sys.executable, "-m", "tests.fuzz", target, f"--seconds={options.seconds}", f"--seed={options.seed}"]
        if subprocess.run(command, check=False).returncode:  # noqa: S603 - this very module
            sys.exit(1)


if __name__ == "__main__":
    main()
