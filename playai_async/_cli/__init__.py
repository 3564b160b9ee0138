"""The command line `playai-async`: the one part of the package that needs cyclopts and rich (extra `cli`).

From the top down: `_app` (commands and options), `_jobs`, `_emulate` and `_demo` (what each one does), `_run` (the
event loop), `_screen` (what is seen), `_exit` (the exit status). Nothing else in the package may import it.
"""
