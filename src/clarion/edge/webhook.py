"""The server that the API server asks: HTTPS, POST with a body, an answer for each."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from aiohttp import web

from clarion.base import limits
from clarion.base.errors import ClarionError, InvalidInputError
from clarion.edge.httpd import HttpServer
from clarion.edge.listen import cannot_listen, parse_listen

Answer: TypeAlias = Callable[[bytes], Awaitable[bytes]]
"""The answer to a body. `InvalidInputError` becomes 400 and `NotReadyError` 503."""


class NotReadyError(ClarionError):
    """There is no answer yet; the API server does what the webhook's failure policy says."""


async def start_webhook(
    listen: str, answers: Mapping[str, Answer], context: ssl.SSLContext
) -> HttpServer:
    """Serve answers by their paths.

    Args:
        listen: `HOST:PORT`; port 0 takes a free one.
        answers: Path to answer.
        context: The server's side of TLS; another certificate may be put into it at any time.

    Raises:
        ClarionError: the address cannot be listened on.
    """
    host, port = parse_listen(listen)
    app = web.Application(client_max_size=limits.WEBHOOK_BODY_BYTES)
    for path, answer in answers.items():
        app.router.add_post(path, _handler(answer))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, host or None, port, ssl_context=context, reuse_address=True)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise cannot_listen(listen, error, "--webhook-listen") from None
    bound = runner.addresses[0]
    return HttpServer(runner, bound[0], bound[1])


def _handler(answer: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(limits.WEBHOOK_BODY_SECONDS):
                body = await request.read()
        except TimeoutError:
            return web.Response(text="the body does not come\n", status=408)
        try:
            reply = await answer(body)
        except InvalidInputError as error:
            return web.Response(text=f"{error.message}\n", status=400)
        except NotReadyError as error:
            return web.Response(text=f"{error.message}\n", status=503)
        return web.Response(body=reply, content_type="application/json")

    return handle
