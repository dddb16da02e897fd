"""Two stacks that start in one instant never choose the same port."""

import socket
import subprocess
import sys

import pytest

from services.cli.supervisor import ports
from services.cli.supervisor.ports import free_port, port_is_free
from shared.testing.nats import free_port as any_free_port

CLAIM = (
    "import sys; from services.cli.supervisor.ports import free_port; print(free_port(int(sys.argv[1])), flush=True)"
)


@pytest.fixture
def preferred() -> int:
    return any_free_port()


def test_a_port_that_another_process_has_chosen_is_not_chosen_again_until_that_process_ends(preferred: int) -> None:
    words = [sys.executable, "-c", f"{CLAIM}; sys.stdin.read()", str(preferred)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        chosen = int(other.stdout.readline())
        assert port_is_free(chosen), "it is claimed, and nobody listens yet"
        assert free_port(chosen) > chosen
        other.kill()
        other.wait()
    assert free_port(chosen) == chosen


def test_a_port_that_somebody_listens_on_is_passed_over_and_not_kept(preferred: int) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", preferred))
        listener.listen()
        assert free_port(preferred) > preferred
    assert free_port(preferred) == preferred


def test_taken_ports_are_passed_over_and_too_few_are_an_error(preferred: int) -> None:
    assert free_port(preferred, taken=frozenset({preferred})) > preferred
    with pytest.raises(OSError, match="no free port"):
        free_port(preferred, taken=frozenset({preferred}), tries=1)


def test_without_a_place_for_claims_a_free_port_will_do(preferred: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports.tempfile, "gettempdir", lambda: "/proc/nowhere")
    assert free_port(preferred) == preferred
