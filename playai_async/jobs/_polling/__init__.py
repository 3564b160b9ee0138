"""Who waits for which job, until when."""
