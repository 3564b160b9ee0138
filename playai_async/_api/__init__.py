"""What PlayAI says: one request, from a URL to a job or the error that says why not."""
