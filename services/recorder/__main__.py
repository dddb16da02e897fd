"""Run the recorder: `python -m services.recorder`."""

from services.recorder.config import RecorderConfig
from services.recorder.intake import NAME
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

    def show(ready: bool, detail: str) -> None:
        runtime.is_ready, runtime.detail = ready, detail

    return RecorderService(
        runtime.bus,
        Writer(ParquetStore(root, wall_ns, config.store_options)),
        config,
        root=root,
        venue=runtime.venue,
        telemetry=Telemetry(runtime.metrics),
        around=Surroundings(
            spawn=runtime.spawn,
            log=runtime.log,
            report_progress=runtime.report_progress,
            on_health=show,
        ),
    )


if __name__ == "__main__":
    run(NAME, build)
