"""When the next request may go."""
