"""The command `cascade`: a small door, so that Ctrl-C ends it quietly even while the commands are being loaded."""

import signal


def main() -> None:
    """Load the command line and run it."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # as in the background of a script, which wants to end it otherwise
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from services.cli.application import main as run  # noqa: PLC0415 - loading takes a second; see above

    signal.signal(signal.SIGINT, before)
    run()


if __name__ == "__main__":
    main()
