"""Folders that are there whole or not at all, also after a process was killed as it wrote one."""

from __future__ import annotations

import pytest
from silogen_runtime.files import new_folder


def write(path, text):
    with new_folder(path) as folder:
        (folder / "file").write_text(text)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_folder_takes_the_place_of_an_earlier_one(tmp_path):
    for text in ("one", "two"):
        write(tmp_path / "out", text)
    assert (tmp_path / "out" / "file").read_text() == "two"
    assert names(tmp_path) == ["out"]


def test_an_error_leaves_the_earlier_one(tmp_path):
    write(tmp_path / "out", "one")
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "out") as folder:
        (folder / "file").write_text(str(1 / 0))
    assert (tmp_path / "out" / "file").read_text() == "one"
    assert names(tmp_path) == ["out"]


def killed_within(path, *, step):
    """Leave what a process leaves that is killed at a step of writing `path`."""
    write(path, "one")
    if step == "filling":
        (path.parent / ".out.new").mkdir()
        (path.parent / ".out.new" / "other").write_text("half")
    else:
        path.rename(path.parent / ".out.earlier")


@pytest.mark.parametrize("step", ["filling", "replacing"])
def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path, step):
    killed_within(tmp_path / "out", step=step)
    with new_folder(tmp_path / "out") as folder:
        assert names(tmp_path) == [".out.new", "out"]
        assert (tmp_path / "out" / "file").read_text() == "one"
        assert names(folder) == []
    assert names(tmp_path) == ["out"]
