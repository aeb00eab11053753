"""Windows and macOS, as far as they can be faked here: their signals, files, names, consoles and processes."""

import io
import multiprocessing
import os
import signal
import socket
import stat
from pathlib import Path, PurePath, PureWindowsPath

import pytest
from command import apart, files, run
from PIL import Image
from planted import marked

from wmremoval.batch.jobs import _kept
from wmremoval.batch.names import Globs
from wmremoval.cli.pipes import listed_names
from wmremoval.cli.signals import requests_to_end, terminated_as_interrupted
from wmremoval.config import TrainConfig
from wmremoval.data.loaders import make_loaders
from wmremoval.data.photostore import PhotoStore
from wmremoval.files import atomic_path
from wmremoval.photofile.write import copy_file

# What Python on Windows lacks; deleted once the libraries are imported.
NOT_ON_WINDOWS = """
import os, signal, sys
for name in ("fork", "forkpty", "getuid", "geteuid", "getgid", "getpgid", "setsid", "killpg", "uname", "sysconf", "chown",
             "fchmod", "sched_getaffinity", "getloadavg", "mkfifo", "statvfs", "confstr", "wait3", "pread", "posix_fadvise"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGKILL", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGPIPE", "alarm", "setitimer"):
    if hasattr(signal, name):
        delattr(signal, name)
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
"""


@pytest.mark.skipif(os.name == "nt", reason="fakes Windows on other systems")
def test_a_folder_is_restored_without_what_only_posix_has(marked_folder):
    done = apart("in", "-o", "out", "--recursive", "--masks", "m", "--report", "r.json", folder=marked_folder,
                 before=NOT_ON_WINDOWS, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "3 restored, 1 without a mark" in done.stdout
    assert files(marked_folder / "out") == files(marked_folder / "in")


# Signals


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no signal stands for Ctrl+Break")
def test_ctrl_break_ends_a_run_like_ctrl_c_where_a_closed_terminal_sends_nothing(monkeypatch):
    monkeypatch.delattr(signal, "SIGHUP")
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(KeyboardInterrupt), terminated_as_interrupted():
        signal.raise_signal(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) == before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no closed terminal sends a signal")
def test_a_closed_terminal_ends_a_run_unless_it_was_started_by_nohup():
    heard = []
    outer = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may have been started by nohup
    with requests_to_end(lambda number, frame: heard.append(number)):
        signal.raise_signal(signal.SIGHUP)
    assert heard == [signal.SIGHUP]
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with requests_to_end(lambda number, frame: heard.append(number)):
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, outer)
    assert heard == [signal.SIGHUP]


# Files


def is_read_only(path: str | Path) -> bool:
    return not os.stat(path).st_mode & stat.S_IWRITE


@pytest.fixture
def like_windows(monkeypatch):
    """Neither deletes nor dates a read-only file, as Windows does."""
    unlink, utime = Path.unlink, os.utime

    def guarded_unlink(path, missing_ok=False):
        if path.exists() and is_read_only(path):
            raise PermissionError(13, "Access is denied", str(path))
        unlink(path, missing_ok)

    def guarded_utime(path, *arguments, **options):
        if is_read_only(path):
            raise PermissionError(13, "Access is denied", str(path))
        utime(path, *arguments, **options)

    monkeypatch.setattr(Path, "unlink", guarded_unlink)
    monkeypatch.setattr(os, "utime", guarded_utime)


@pytest.mark.usefixtures("like_windows")
def test_the_copy_of_a_read_only_file_has_its_time_and_is_read_only(tmp_path):
    source, copy = tmp_path / "a.png", tmp_path / "b.png"
    source.write_bytes(b"pixels")
    os.utime(source, (1_000_000_001, 1_100_000_002))
    source.chmod(0o444)
    copy_file(source, copy, source.stat())
    assert copy.stat().st_mtime == 1_100_000_002 and is_read_only(copy)
    assert files(tmp_path) == ["a.png", "b.png"]


@pytest.mark.usefixtures("like_windows")
def test_a_read_only_file_that_could_not_be_finished_is_deleted(tmp_path):
    with pytest.raises(OSError, match="disk full"), atomic_path(tmp_path / "a.png") as temporary:
        temporary.write_bytes(b"half")
        temporary.chmod(0o444)
        raise OSError("disk full")
    assert list(tmp_path.iterdir()) == []


# Names


@pytest.mark.parametrize("path", [r"C:\photos\a.jpg", "C:a.jpg", r"\photos\a.jpg", r"..\a.jpg"])
def test_a_listed_file_of_another_drive_lies_at_the_top_of_the_output(path):
    assert _kept(PureWindowsPath(path)) == PurePath("a.jpg")


def test_a_pattern_may_have_the_separator_of_the_system(monkeypatch):
    globs = Globs(include=("beach\\*.jpg",))
    assert not globs.want(PurePath("beach/a.jpg"))
    monkeypatch.setattr(os, "sep", "\\")
    assert globs.want(PurePath("beach/a.jpg")) and not globs.want(PurePath("town/a.jpg"))


def test_a_pattern_that_no_shell_has_replaced_names_its_files(marked_folder, capsys):
    assert run("in/*.png", "-o", "out") == 0
    assert files(marked_folder / "out") == ["one.png", "two words é🙂.png"]
    assert run("in/*.webp", "-o", "out") == 1
    assert "*.webp: there is no such file" in capsys.readouterr().err
    (marked_folder / "in/one.png").rename(marked_folder / "in/a*.png")
    Image.fromarray(marked(110, 170)[0]).save(marked_folder / "in/another.png")
    assert run("in/a*.png", "-o", "named") == 0 and files(marked_folder / "named") == ["a*.png"], "a file's own name"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_may_come_from_powershell(tmp_path, encoding):
    (tmp_path / "list").write_bytes("one.png\r\ntwo é🙂.png\r\n".encode(encoding))
    assert listed_names(str(tmp_path / "list"), null=False) == ["one.png", "two é🙂.png"]


def test_a_list_in_another_encoding_is_named_where_file_names_are_unicode(tmp_path, monkeypatch):
    (tmp_path / "list").write_bytes("café.png\n".encode("cp1252"))
    monkeypatch.setattr(os, "fsdecode", lambda name: name.decode("utf-8", "surrogatepass"))  # as Windows does
    with pytest.raises(ValueError, match="list is not UTF-8: save it as UTF-8"):
        listed_names(str(tmp_path / "list"), null=False)


def test_a_name_that_the_console_cannot_write_is_no_error(marked_folder, monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr("sys.stdout", console)
    assert run("in", "-o", "out") == 0
    console.flush()
    assert "two words é\\U0001f642.png: mark on" in console.buffer.getvalue().decode("cp1252")


# Processes and sockets


@pytest.mark.parametrize(("method", "megabytes", "shared"), [("fork", 100, 6), ("spawn", 50, 0)])
def test_loader_processes_that_share_nothing_share_the_limit_of_memory(photos, monkeypatch, method, megabytes, shared):
    """100 MB for two processes: once where they are forked, half of it each where they begin empty."""
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: method)
    given = []

    def store(side, limit):
        given.append(limit)
        return PhotoStore(side, limit)

    monkeypatch.setattr("wmremoval.data.loaders.PhotoStore", store)
    config = TrainConfig(image_size=32, batch_size=4, workers=2, photo_memory=100)
    loader = make_loaders({"train": photos[:6]}, config, system_fonts=False)["train"]
    assert given == [megabytes] and len(loader.dataset.store.decoded) == shared


def test_a_port_of_another_program_is_not_taken_over_on_windows(monkeypatch):
    from wmremoval.app import page

    options = []
    monkeypatch.setattr(socket.socket, "setsockopt", lambda self, *option: options.append(option))
    for system, expected in (("win32", []), ("linux", [(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)])):
        monkeypatch.setattr(page.sys, "platform", system)
        options.clear()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        page._check_free(port)
        assert options == expected
