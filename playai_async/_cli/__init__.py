"""The command line `playai-async`, installed with the extra `cli`.

How a command runs
------------------
1. `playai_async.__main__` imports `main` and passes the arguments. If cyclopts or rich is missing, `__main__` prints
   how to install the extra and exits with code 2.
2. `app` declares the commands, their options and their help texts for cyclopts. The function of a command checks the
   arguments and settings, reads ids or text from standard input, and returns a coroutine. So every mistake is found
   before the event loop starts and before any request is sent.
3. `main` runs the coroutine in an event loop. The coroutine comes from one of the modules of `commands`: `create`,
   `wait` (which has `get` and `wait`) or `emulator` (which has `emulate` and `demo`). It opens the session, with the
   proxies of the environment (`network`), and closes it at the end.
4. As jobs finish, `results` prints each job, counts it for the progress display, and keeps its exit code. No finished
   job is kept in memory, so `wait` can handle thousands of jobs.
5. `main` returns the exit code.

Output
------
Results go to standard output, one line for each job: text for people, or JSON for programs. Each line is flushed at
once. Errors and hints go to standard error. `output` draws progress on standard error if standard error is a terminal
and standard output is not a pipe. The display is removed before each line of output and at the end.

Exit codes
----------
`errors.ExitCode` lists the exit codes. If jobs finish in different ways, an error comes before a timeout, and a timeout
before a failed job. Wrong usage and wrong settings exit with code 2. A bug prints a traceback and exits with code 3,
because Python's own exit code for an exception, 1, means that a job failed.

Signals
-------
SIGINT, SIGTERM and SIGHUP cancel the command. Cancellation ends all waits, removes partial files and closes the
session. Then the process exits with 128 plus the number of the signal. A signal that the parent process ignores (as
`nohup` does) stays ignored. A job costs money: if `create` is cancelled after it created the job, it prints the job id
on standard error.

Secrets
-------
The API key and the user id are read from the environment only. `errors.redact` removes both from each error message,
and also the value of any option, because the value may be a key.

Limits
------
Only this package imports cyclopts and rich, and only `__main__` imports this package. The commands use `PlayAISession`
as any other program does. Only `network` knows HTTP.
"""
