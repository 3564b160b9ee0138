"""A uvicorn server that ends what waits before it waits for what is open."""

import socket

import uvicorn


class Server(uvicorn.Server):
    """A server for an app with a session in its lifespan's state.

    On its way out uvicorn waits for open responses first and ends the lifespan last, so that a stream would keep a
    session open, and the session the stream. Here the session goes first: its waits end, and the responses with them.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the session, then the server."""
        await self.lifespan.state["playai"].aclose()
        await super().shutdown(sockets)
