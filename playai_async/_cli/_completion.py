"""`--install-completion`: the shell's completion of this command line, as cyclopts generates it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal, TypeAlias

from cyclopts import App
from cyclopts.completion.detect import ShellDetectionError, detect_shell

from playai_async._cli._exit import Exit, UsageError
from playai_async._cli._screen import Screen

__all__ = ["Shell", "install_completion"]

Shell: TypeAlias = Literal["bash", "zsh", "fish"]


async def install_completion(app: App, screen: Screen, *, shell: Shell | None, output: Path | None) -> Exit:
    """Write a completion script where the shell looks for one; print its path, and what is left to do.

    The shell's own start-up file is left alone, though cyclopts would add to it: fish finds the script without that,
    bash does with the help of a package, and for zsh and a bash without it a line is said. A file that somebody else
    keeps is theirs to edit, and would outlive this program.

    Args:
        app: What is to be completed.
        screen: Where to tell.
        shell: Which one, or None for the one that this runs in.
        output: Where to write instead, or None.

    Returns:
        The exit status.

    Raises:
        UsageError: It can't be told which shell this is.
        OSError: The script can't be written.
    """
    try:
        found = shell or detect_shell()
    except ShellDetectionError:
        raise UsageError("which shell this is cannot be told; say it with --shell") from None
    path = app.install_completion(shell=found, output=output, add_to_startup=False)
    screen.result(str(path))
    if found == "bash":
        screen.note("bash finds it there by the package bash-completion; otherwise ~/.bashrc needs this line:")
        screen.note(f"source {shlex.quote(str(path))}")
    if found == "zsh":
        screen.note("For zsh to find it, ~/.zshrc needs this line above compinit, if it is not there yet:")
        screen.note(f"fpath=({path.parent} $fpath)")
    screen.note("It works in shells that are started from now on.")
    return Exit.FINE
