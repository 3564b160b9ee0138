"""From text to a file: create a job, download its audio."""
