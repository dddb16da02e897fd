"""Log files stay bounded and readable."""

from pathlib import Path

from services.cli.supervisor import logfiles


def test_log_beyond_the_limit_is_moved_and_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    descriptor = logfiles.open_log(path)
    with open(descriptor, "w") as writer:  # noqa: PTH123 - a descriptor, not a path
        writer.write("x" * 100)
        writer.flush()
        assert logfiles.rotate(path, size_max=50)
        writer.write("after")
    assert path.read_text() == "after"
    assert (tmp_path / "a.log.1").read_text() == "x" * 100


def test_small_or_missing_log_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("x")
    assert not logfiles.rotate(tmp_path / "a.log", size_max=1)
    assert not logfiles.rotate(tmp_path / "none.log", size_max=1)


def test_last_lines_are_readable_and_of_this_run_only(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("old run\n")
    since = logfiles.size(path)
    with path.open("a") as log:
        log.write('{"event": "ready", "level": "info"}\n\nTraceback\n')
        log.write(
            '{"event": "crashed", "level": "error", "error": "KeyError()", "exception": "T\\nKeyError: 1"}\n{bad\n'
        )
    assert logfiles.last_lines(path, since=since) == [
        "info ready",
        "Traceback",
        "error crashed KeyError() KeyError: 1",
        "{bad",
    ]


def test_last_error_skips_what_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text('{"event": "crashed", "level": "error"}\n{"event": "ready", "level": "info"}\n')
    assert logfiles.last_error(path) == "error crashed"
    assert logfiles.last_error(tmp_path / "none.log") is None


def test_last_error_says_when_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text('{"event": "crashed", "level": "error", "timestamp": "2026-11-21T06:44:15.911882Z"}\n')
    assert logfiles.last_error(path) == "2026-11-21T06:44:15Z error crashed"
