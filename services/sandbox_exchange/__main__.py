"""Run a sandbox venue as a service: `python -m services.sandbox_exchange`. It needs no message bus.

Settings come from the section `sandbox_exchange`; venue and markets are the stack's unless it says otherwise. State and
key lie in the state directory.
"""

import asyncio
import contextlib
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from services.sandbox_exchange.app import RunningSandbox
from services.sandbox_exchange.config import NAME, SandboxConfig, VenueName
from services.sandbox_exchange.files import write_file
from services.sandbox_exchange.service import serve
from shared.config import load_settings
from shared.errors import ConfigError, InputError
from shared.health import Health, HealthServer
from shared.lifecycle import EXIT_CONFIG, EXIT_CRASH, ProcessConfig, exit_if_full_disk
from shared.logs import configure_logs


def configured(process: ProcessConfig) -> SandboxConfig:
    """Return the configuration of this process. Raises ConfigError that names the key and the fix."""
    settings = load_settings(process.settings_file)
    stack = settings.stack
    return settings.section(
        NAME,
        SandboxConfig,
        venue=stack.venue if stack.venue in set(VenueName) else VenueName.MEXC.value,
        symbols=tuple(asset.replace("-", "") for asset in stack.assets),
        state_file=str(process.state_dir / f"{NAME}.state"),
        key_file=str(process.state_dir / f"{NAME}.key"),
    )


async def live(process: ProcessConfig, config: SandboxConfig) -> None:
    """Run the venue, its health page and its metrics until a signal."""
    log = configure_logs(NAME, process.instance)

    async with contextlib.AsyncExitStack() as stack:

        async def started(sandbox: RunningSandbox) -> None:
            def health() -> Health:
                failure = sandbox.failure
                detail = "running" if failure is None else repr(failure)
                return Health(NAME, healthy=failure is None, ready=failure is None, detail=detail)

            server = HealthServer(process.http_host, process.http_port, sandbox.telemetry.metrics.registry, health)
            await server.start(fall_back=process.port_file is not None)
            stack.push_async_callback(server.stop)
            if process.port_file is not None:
                write_file(process.port_file, str(server.bound_port).encode())
            log.info("ready", venue=config.venue, rest_url=sandbox.rest_url, admin_url=sandbox.admin_url)

        await serve(config, started)
    log.info("drained")


def main() -> NoReturn:
    """Run until told to stop; exits 0 after that, 2 for what no restart helps, 3 for a full disk, 1 for a failure."""
    code, state_dir = 0, Path()
    try:
        process = ProcessConfig.from_environment()
        state_dir = process.state_dir
        asyncio.run(live(process, configured(process)))
    except (ConfigError, InputError) as error:
        exit_if_full_disk(NAME, error, state_dir)
        sys.stderr.write(f"{NAME}: {error}\n")
        code = EXIT_CONFIG
    except Exception as error:  # noqa: BLE001 - the end of the process: told, with exit code 1
        exit_if_full_disk(NAME, error, state_dir)
        traceback.print_exc()
        code = EXIT_CRASH
    sys.exit(code)


if __name__ == "__main__":
    main()
