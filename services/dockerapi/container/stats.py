"""GET /containers/{id}/stats."""

from contextlib import aclosing
from typing import Final

from aiohttp import web

from dockerapi.http.call import Call, JsonStream, break_off, reply
from dockerapi.http.routing import Route
from sampan.docker.views.stats_view import stats_json
from sampan.engine import following
from sampan.errors import NotFoundError, SampanError


async def stats(call: Call) -> web.StreamResponse:
    """Send one sample a second, or one sample in all."""
    stream = call.flag("stream", default=True)
    one_shot = call.version >= (1, 41) and call.flag("one-shot") and not stream
    answer = JsonStream(call.request)
    async with aclosing(following.stats(call.followed, call.args["id"], stream=stream, one_shot=one_shot)) as samples:
        try:
            async for sample in samples:
                if not stream:
                    return reply(stats_json(sample, call.version))
                await answer.write(stats_json(sample, call.version))
        except NotFoundError:  # removed in the middle
            if not answer.begun:
                raise
        except SampanError as error:
            if not answer.begun:
                raise
            break_off(call.request, error)
    if not stream:
        raise NotFoundError(f"No such container: {call.args['id']}")
    return await answer.end()


ROUTES: Final = (Route("GET", "/containers/{id}/stats", stats, follows=True),)
