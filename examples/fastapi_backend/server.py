"""A uvicorn server that closes the session before it waits for open responses."""

import socket

import uvicorn


class Server(uvicorn.Server):
    """A server for an app that keeps its session in the lifespan state.

    On shutdown, uvicorn waits for open responses first and ends the lifespan last. An open stream would keep the
    session open, and the session would keep the stream open. This server closes the session first: all waits end, and
    so do the responses.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the session, then shut down."""
        await self.lifespan.state["playai"].aclose()
        await super().shutdown(sockets)
