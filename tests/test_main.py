"""``python -m cnnlib`` as a whole: errors, Ctrl-C, a reader that goes away."""

import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

from cnnlib.__main__ import main


def test_ctrl_c_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("cnnlib.models.registry.available", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert main(["models"]) == 130
    assert capsys.readouterr() == ("", "\ninterrupted\n")
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN, "or one more would break into the end of the process"


def test_an_error_that_can_be_mended_is_one_line(capsys):
    assert main(["models", "alexnt"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: no name matches 'alexnt'; did you mean ")
    assert err.count("\n") == 1


def test_a_file_that_cannot_be_used_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("cnnlib.models.registry.available", lambda *_, **__: (tmp_path / "missing").read_text())
    assert main(["models"]) == 2
    assert capsys.readouterr() == ("", f"error: cannot use {tmp_path / 'missing'}: No such file or directory\n")
    monkeypatch.setattr("cnnlib.models.registry.available", lambda *_, **__: os.close(-1))
    with pytest.raises(OSError, match="Bad file descriptor"):  # about no file: where it came from is all there is
        main(["models"])


def test_a_reader_that_goes_away_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; from cnnlib.__main__ import main; input(); sys.exit(main(['models']))"],
        **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE),
    )
    process.stdout.close()
    process.stdin.write(b"go on\n")
    process.stdin.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 0


def test_a_reader_that_goes_away_early_is_no_error_of_buffered_output():
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = f"set -o pipefail; {shlex.quote(sys.executable)} -m cnnlib models | head -n 1"
    process = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, timeout=60)
    assert (process.returncode, process.stderr) == (0, b"")
    assert process.stdout.count(b"\n") == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_one_line(unbuffered):
    with open("/dev/full", "wb") as full:
        process = subprocess.run(
            [sys.executable, "-m", "cnnlib", "models", "lenet"],
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    message = "error: cannot write the output: No space left on device; send it elsewhere\n"
    assert (process.returncode, process.stderr) == (2, message)


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_no_output_at_all_is_no_error(closed):
    command = f"{shlex.quote(sys.executable)} -m cnnlib models lenet {closed}"
    process = subprocess.run(["bash", "-c", command], capture_output=True)
    assert (process.returncode, process.stderr) == (0, b"")


def test_a_terminal_without_the_signs_of_the_tables_gets_others():
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    process = subprocess.run(
        [sys.executable, "-m", "cnnlib", "models", "resnet110"], env=environment, capture_output=True
    )
    assert (process.returncode, process.stderr) == (0, b"")
    assert b" 6.61 ? 0.16 %" in process.stdout


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    for command in ("models", "summary", "receptive-field", "train", "study", "bench", "data"):
        assert re.search(rf"^    {command}\b", out, re.MULTILINE)
