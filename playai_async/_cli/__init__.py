"""The command line `playai-async`: the one part of the package that needs cyclopts and rich (extra `cli`).

From the top down: `_main` (a command line from beginning to end), `_app` (commands and options), `_create`, `_jobs`,
`_emulate`, `_demo` and `_completion` (what each one does), `_downloads` (audio into files), `_ends` (how a job's end is
told and counted), `_input` (what is read), `_run` (the event loop), `_screen` (what is seen), `_complaints` (what is
wrong with a command line), and `_exit` (the exit status). Nothing else in the package may import it.
"""
