"""HTTP sessions that stay at the venue.

In: requests with a key in their headers. Out: their answers. Never: a request carried on to where an answer points:
the key would go to somebody else, an order would be sent twice, and a stranger's answer be taken for the venue's.
"""

import aiohttp

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def venue_session(connect_timeout_s: float) -> aiohttp.ClientSession:
    """Return a session in which a redirect is an aiohttp.ClientError, so that its request's outcome is not known."""
    timeout = aiohttp.ClientTimeout(connect=connect_timeout_s)
    return aiohttp.ClientSession(timeout=timeout, middlewares=(_stay,))


async def _stay(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    response = await handler(request)
    if response.status in _REDIRECTS:
        response.close()
        raise aiohttp.ClientError(f"the venue points elsewhere ({response.status}): it is not followed")
    return response
