"""A command that ends with its standard input, so that it never outlives who started it.

In: standard input, a pipe. Out: the moment it ends. Never: anything read from it.
"""

import asyncio
import sys


async def stdin_ends() -> None:
    """Return when standard input has ended: its writer closed it, or died."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while await reader.read(4096):
            pass
    finally:
        transport.close()
