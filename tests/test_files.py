"""Files that are replaced whole or not at all; how much memory there is for what they hold."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from gcheap import _memory
from gcheap._files import replacing


def test_what_was_there_stays_until_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("before", [None, "old"])
def test_an_error_leaves_things_as_they_were(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_text(before)

    def fail() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [p.read_text() for p in tmp_path.iterdir()] == ([] if before is None else [before])


def test_links_are_followed_and_permissions_kept(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    with replacing(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_new_files_have_the_permissions_of_new_files(tmp_path: Path) -> None:
    with replacing(tmp_path / "file"):
        pass
    (tmp_path / "plain").touch()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_errors_name_the_file(tmp_path: Path) -> None:
    missing = tmp_path / "none" / "file"
    with pytest.raises(FileNotFoundError) as told, replacing(missing):
        pass
    assert told.value.filename == str(missing)
    with pytest.raises(OSError, match="/dev/full"), replacing("/dev/full") as file:
        file.write(b"x" * 100_000)
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_pipes_are_written_into(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    with replacing(path) as file:
        file.write(b"through")
    reader.join(30)
    assert read == [b"through"]
    assert stat.S_ISFIFO(path.stat().st_mode)


def group(folder: Path, names: tuple[str, str, str], values: tuple[str, str, str]) -> Path:
    folder.mkdir()
    for name, value in zip(names, values, strict=True):
        (folder / name).write_text(value)
    return folder


V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
V2 = ("memory.max", "memory.current", "memory.stat")


def test_what_control_groups_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limited = (
        group(tmp_path / "a", V1, ("1000\n", "900\n", "inactive_file 1\ntotal_inactive_file 50\n")),
        group(tmp_path / "b", V2, ("2000\n", "1950\n", "file 9\ninactive_file 30\n")),
        group(tmp_path / "c", V2, ("max\n", "1950\n", "inactive_file 30\n")),
        group(tmp_path / "d", V1, ("100\n", "900\n", "")),
        tmp_path / "none",
    )
    assert [_memory._room(folder) for folder in limited] == [150, 80, None, 0, None]
    monkeypatch.setattr(_memory, "_cgroup_folders", lambda: list(limited[:3]))
    assert _memory.available_bytes() == 80
    monkeypatch.setattr(_memory, "_cgroup_folders", list)
    assert 0 < _memory.available_bytes() <= _memory.meminfo()["MemTotal"]


def test_the_folders_of_this_process() -> None:
    folders = _memory._cgroup_folders()
    assert all(str(folder).startswith("/sys/fs/cgroup") for folder in folders)
    assert len(set(folders)) == len(folders)
