"""Files are whole or not there, however many write them."""

import json
import threading
from pathlib import Path

import pytest

from cnnlib.files import check_writable, read_json, replacing, user_path, write_json


def test_a_full_disk_is_named_and_the_old_content_stays(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    path = write_json(tmp_path / "one.json", [1])
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*one\.json'"):
        write_json(path, [2])
    assert json.loads(path.read_text()) == [1]
    assert [file.name for file in tmp_path.iterdir()] == ["one.json"]


def test_writers_of_one_file_take_turns(tmp_path):
    path, read, failures = tmp_path / "one.json", [], []

    def write(number):
        try:
            for _ in range(40):
                write_json(path, [number] * 2000)
                read.append(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=[number]) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failures
    assert all(len(content) == 2000 and len(set(content)) == 1 for content in read)
    assert [file.name for file in tmp_path.iterdir()] == ["one.json"]


def test_a_probe_leaves_what_is_there_alone(tmp_path):
    path = write_json(tmp_path / "one.json", [1])
    check_writable(path)
    check_writable(tmp_path / "new" / "two.json")
    assert json.loads(path.read_text()) == [1]
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["new", "one.json"]


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    with pytest.raises(IsADirectoryError) as probed:
        check_writable(tmp_path)
    with pytest.raises(IsADirectoryError) as written, replacing(tmp_path):
        pass
    assert probed.value.filename == written.value.filename == str(tmp_path)


@pytest.mark.parametrize("path", [".", "/"])
def test_a_path_without_a_name_is_an_error_of_the_system(path):
    with pytest.raises(IsADirectoryError, match="Is a directory"):
        write_json(path, [1])


def test_a_tilde_before_no_user_is_a_name_like_any_other(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/somebody")
    assert user_path("~/runs") == Path("/home/of/somebody/runs")
    assert user_path("~nobody-of-this-name/runs") == Path("~nobody-of-this-name/runs")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_not_read(tmp_path, number):
    path = tmp_path / "one.json"
    path.write_text(f'{{"error": {number}}}')
    with pytest.raises(ValueError, match=f"{number} is no finite number"):
        read_json(path)
    path.write_text('{"error": 1e300}')
    assert read_json(path) == {"error": 1e300}
