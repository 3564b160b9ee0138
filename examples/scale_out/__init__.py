"""Two web processes and two workers with one PostgreSQL and one Redis: `python -m examples.scale_out`."""
