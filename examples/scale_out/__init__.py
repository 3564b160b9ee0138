"""Two web processes and two workers, on one PostgreSQL and one Redis: `python -m examples.scale_out`."""
