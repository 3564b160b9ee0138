"""Speech in a FastAPI backend: `python -m examples.fastapi_backend`."""
