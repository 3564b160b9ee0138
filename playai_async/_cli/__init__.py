"""The command line `playai-async`: the one part of the package that needs cyclopts and rich (extra `cli`).

From the top down: `main` (a command line from beginning to end), `app` (commands and options), `create`, `wait` and
`emulator` (what the commands do), `results` (how jobs are reported and counted), `output` (what is seen), and `errors`
(exit codes and messages). Nothing else in the package may import it.
"""
