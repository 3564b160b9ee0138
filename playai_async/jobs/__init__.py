"""Wait for the jobs of any service."""
