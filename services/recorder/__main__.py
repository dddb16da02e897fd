"""Run the recorder: `python -m services.recorder`."""

from services.recorder.config import RecorderConfig
from services.recorder.intake import NAME
from services.recorder.mirror import Health, mirrored
from services.recorder.service import RecorderService, Surroundings
from services.recorder.telemetry import Telemetry
from services.recorder.writer import Writer
from shared.clock import wall_ns
from shared.lifecycle import Runtime, run
from shared.store.parquet import ParquetStore


async def build(runtime: Runtime) -> RecorderService:
    """Make the service out of the process's settings and adapters; the store lies in the state directory."""
    config = runtime.settings.section(NAME, RecorderConfig)
    root = runtime.state_dir / "store"

    health = Health(runtime)
    store = mirrored(ParquetStore(root, wall_ns, config.store_options), config, runtime, health)
    return RecorderService(
        runtime.bus,
        Writer(store),
        config,
        root=root,
        venue=runtime.venue,
        telemetry=Telemetry(runtime.metrics),
        around=Surroundings(
            spawn=runtime.spawn,
            log=runtime.log,
            report_progress=runtime.report_progress,
            on_health=health.recorder,
        ),
    )


if __name__ == "__main__":
    run(NAME, build)
