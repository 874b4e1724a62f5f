"""The command line: what it prints where, and its exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import netassay
from netassay import cli, demo
from netassay.base.errors import NetassayError


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(**options: object) -> None:
        raise error

    monkeypatch.setattr(demo, "run", run)


def test_version_and_help_are_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"netassay {netassay.__version__}\n"
    assert cli.main(["--help"]) == 0
    assert "demo" in capsys.readouterr().out
    assert cli.main(["demo", "-h"]) == 0
    assert "--epochs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "Usage: netassay"),
        (["train"], "No such command 'train'"),
        (["demo", "--epochs", "0"], "--epochs"),
        (["demo", "--fast"], "--fast"),
        (["demo", "extra"], "extra"),
    ],
)
def test_wrong_usage_is_status_2_on_standard_error(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err


def test_an_output_directory_that_is_a_file_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["demo", "-o", str(tmp_path / "file")]) == 2
    assert "is a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (NetassayError("demo: got a, expected b"), "netassay: demo: got a, expected b\n"),
        (NetassayError("two\nlines\x1b[31m"), "netassay: two lines\\x1b[31m\n"),
        (PermissionError(13, "Permission denied", "/x"), "netassay: /x: Permission denied\n"),
        (ZeroDivisionError("no"), "netassay: unexpected ZeroDivisionError: no (--debug shows where)\n"),
    ],
)
def test_an_error_is_status_1_and_one_line(
    error: Exception,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fail_with(error, monkeypatch)
    assert cli.main(["demo", "-o", str(tmp_path)]) == 1
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize("words", [["--debug", "demo"], ["demo", "--debug"]])
def test_debug_shows_the_traceback(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(NetassayError("demo: got a, expected b"), monkeypatch)
    assert cli.main([*words, "-o", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "NetassayError: demo: got a, expected b" in err


def test_ctrl_c_is_status_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(KeyboardInterrupt(), monkeypatch)
    assert cli.main(["demo", "-o", str(tmp_path)]) == 130
    err = capsys.readouterr().err
    assert err.strip() == "netassay: interrupted"
    assert "Traceback" not in err


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    # the pipe is closed before anything is written
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as out:
        done = subprocess.run([sys.executable, "-m", "netassay", "--help"], stdout=out, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr


def test_cmake_dir_is_the_prefix_of_the_installed_library(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--cmake-dir"]) == 0
    prefix = Path(capsys.readouterr().out.removesuffix("\n"))
    assert prefix.is_absolute()
    assert (prefix / "include" / "netassay" / "saturation.hpp").is_file()
    assert (prefix / "lib" / "libnetassay.a").is_file()
    assert (prefix / "lib" / "cmake" / "netassay" / "netassay-config.cmake").is_file()
