"""Serve the example on 127.0.0.1. Without PLAYAI_API_KEY, it uses an emulator of the service."""

import argparse
import asyncio
import os
import sys

import uvicorn

from playai_async.emulator import Emulator

from .app import create_app
from .server import Server


def main() -> int:
    """Serve until interrupted, and return the exit status."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    with asyncio.Runner() as runner:
        emulator = Emulator(speak=True)
        try:
            if not os.environ.get("PLAYAI_API_KEY"):
                runner.run(emulator.start())
                os.environ |= {
                    "PLAYAI_API_KEY": "any-key",
                    "PLAYAI_USER_ID": "any-user",
                    "PLAYAI_BASE_URL": emulator.base_url,
                }
                if port:  # with port 0, the system chooses the port when the server starts
                    os.environ["WEBHOOK_BASE_URL"] = f"http://127.0.0.1:{port}"
                sound = "speech by espeak-ng" if emulator.speaks else "a tune; for speech, install espeak-ng"
                print(f"PLAYAI_API_KEY is not set: using an emulator, which returns {sound}.", flush=True)
            else:
                url = os.environ.get("PLAYAI_BASE_URL") or "https://api.play.ai"
                print(f"PLAYAI_API_KEY is set: using {url}. Unset it to use an emulator.", flush=True)
            # Without a timeout, a client that does not read would keep its connection open forever.
            config = uvicorn.Config(create_app(), port=port, timeout_graceful_shutdown=5)
            server = Server(config)
            try:
                runner.run(server.serve())
            except SystemExit:  # by uvicorn, which has logged the error
                if not server.lifespan.should_exit:  # else the app could not start
                    again = f"--port {port + 1}, or make example PORT={port + 1}"
                    print(f"The server cannot use port {port}. Choose another: {again}", file=sys.stderr)
                raise
        except KeyboardInterrupt:
            return 130
        finally:
            runner.run(emulator.stop())
    return 0


if __name__ == "__main__":
    sys.exit(main())
