"""How a command ends: exit codes, and the one error that the shared tree does not have.

0 done; 1 something went wrong while running; 2 a configuration, a file or a request that cannot work; 3 no stack runs.
"""

from shared.errors import CascadeError, UnavailableError, UnknownOutcomeError

EXIT_FAILED = 1
EXIT_REFUSED = 2
EXIT_NOT_RUNNING = 3


class NotRunningError(UnavailableError):
    """Report that no stack runs where the command looked."""


def exit_code_of(error: CascadeError) -> int:
    """Return the exit code that a command ends with because of `error`."""
    if isinstance(error, NotRunningError):
        return EXIT_NOT_RUNNING
    return EXIT_FAILED if isinstance(error, UnavailableError | UnknownOutcomeError) else EXIT_REFUSED
