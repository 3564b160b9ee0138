"""A text-to-speech backend with FastAPI: `python -m examples.fastapi_backend`."""
