"""A command that ends with its standard input, so that it never outlives who started it.

In: standard input, mostly a pipe. Out: the moment it ends. Never: anything read from it.
"""

import asyncio
import os
import stat
import sys


async def stdin_ends() -> None:
    """Return when standard input has ended: its writer closed it, or died. A file or /dev/null has ended already."""
    kind = os.fstat(sys.stdin.fileno()).st_mode
    if not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind) or sys.stdin.isatty()):
        return
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while await reader.read(4096):
            pass
    finally:
        transport.close()
