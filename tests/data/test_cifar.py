import argparse
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from cnnlib.data import (
    DataError,
    Limits,
    StandInWarning,
    cache_folder,
    cifar,
    cli,
    fetch,
    load,
    load_data,
    shapes10,
    verify,
)

pytestmark = pytest.mark.network


def test_real_cifar10_has_the_published_sizes_classes_and_means(monkeypatch):
    if not os.environ.get("CNNLIB_DATA"):
        pytest.skip("CNNLIB_DATA is not set, so there is no CIFAR-10 to check")
    data = load("cifar10")
    assert data.name == "CIFAR-10"
    assert data.stands_in_for is None
    assert data.train_images.shape == (50_000, 3, 32, 32)
    assert data.test_images.shape == (10_000, 3, 32, 32)
    assert data.train_labels.bincount().tolist() == [5_000] * 10
    assert data.test_labels.bincount().tolist() == [1_000] * 10
    assert " ".join(data.classes) == "airplane automobile bird cat deer dog frog horse ship truck"
    assert data.mean == pytest.approx((0.49139968, 0.48215841, 0.44653091), abs=1e-8)
    assert data.std == pytest.approx((0.24703223, 0.24348513, 0.26158784), abs=1e-8)
    assert "CNNLIB_DATA" in data.origin


@pytest.mark.parametrize(("name", "reader"), [("cifar10", "CIFAR10"), ("CIFAR-100", "CIFAR100")])
def test_images_and_labels_are_those_of_torchvision(tiny, tmp_path, name, reader):
    data = load(name, tiny[reader.lower()].unpack(tmp_path))
    for train, images, labels in (
        (True, data.train_images, data.train_labels),
        (False, data.test_images, data.test_labels),
    ):
        reference = getattr(datasets, reader)(tmp_path, train=train)
        assert len(images) == len(labels) == len(reference)
        assert images.dtype == torch.uint8
        assert labels.dtype == torch.int64
        assert images.is_contiguous()
        for k, (picture, label) in enumerate(reference):
            assert np.array_equal(np.asarray(picture), images[k].permute(1, 2, 0))
            assert label == labels[k]
    assert data.classes == tuple(reference.classes)
    assert str(tmp_path) not in data.origin


def test_load_data_is_another_name_of_load():
    assert load_data is load


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(DataError, match="unknown data set 'svhn'; choose one of cifar10, cifar100, shapes10, imagenet"):
        load("svhn")


# A folder that the user names: it verifies, or there is an error.


@pytest.fixture
def named(tiny, host, tmp_path, monkeypatch):
    """CNNLIB_DATA set to a folder with a whole CIFAR-10, and a host that must never be asked."""
    folder = tiny["cifar10"].unpack(tmp_path / "named")
    monkeypatch.setenv("CNNLIB_DATA", str(folder))
    monkeypatch.setenv("CNNLIB_MIRRORS", host.url("good"))
    yield folder
    assert not host.requests
    assert not cache_folder().exists()


def test_cnnlib_data_is_read(named):
    assert load().origin == "the folder named by CNNLIB_DATA"
    assert all(check.ok for check in verify())


def test_cnnlib_data_may_begin_with_the_home_folder(named, monkeypatch):
    monkeypatch.setenv("HOME", str(named.parent))
    monkeypatch.setenv("CNNLIB_DATA", "~/named")
    assert len(load().test_images) == 20


def test_root_comes_before_cnnlib_data(named, monkeypatch):
    monkeypatch.setenv("CNNLIB_DATA", "/does/not/exist")
    assert load(root=named).origin == "the folder named by root"


def test_what_is_drawn_is_read_from_no_folder(named):
    with pytest.raises(DataError, match=r"shapes10 is drawn, and read from no folder; leave out root \(--root\)"):
        load("Shapes-10", named)


def test_root_may_begin_with_the_home_folder(named, monkeypatch):
    monkeypatch.setenv("HOME", str(named.parent))
    monkeypatch.delenv("CNNLIB_DATA")
    assert load(root=f"~/{named.name}").origin == "the folder named by root"


def test_the_folder_that_is_verified_is_the_one_that_is_named(named, tmp_path, monkeypatch):
    monkeypatch.setenv("CNNLIB_DATA", str(tmp_path / "elsewhere"))
    assert all(check.ok for check in verify(root=named))
    assert not any(check.ok for check in verify())


def test_load_is_as_patient_as_it_is_told_to_be(tiny, cache, monkeypatch):
    told = []

    def fetch(name, *, progress, patient):
        told.append(patient)
        raise DataError("no host")

    monkeypatch.setattr(cifar, "fetch", fetch)
    for patient in (False, True):
        with pytest.raises(DataError):
            load(stand_in=False, progress=False, patient=patient)
    assert told == [False, True]


def test_a_relative_cnnlib_data_is_an_error_that_names_the_absolute_path(named, monkeypatch):
    monkeypatch.chdir(named.parent)
    monkeypatch.setenv("CNNLIB_DATA", "named")
    with pytest.raises(DataError, match="CNNLIB_DATA=named is a relative path") as error:
        load()
    assert str(named) in str(error.value)


def test_a_missing_file_and_a_damaged_one_are_named_with_their_md5(named):
    folder = named / "cifar-10-batches-py"
    (folder / "data_batch_2").unlink()
    (folder / "test_batch").write_bytes(b"damaged")
    with pytest.raises(DataError) as error:
        load()
    md5 = dict(datasets.CIFAR10.train_list + datasets.CIFAR10.test_list)
    message = str(error.value)
    assert f"data_batch_2 is missing (its md5 is {md5['data_batch_2']})" in message
    assert "test_batch is damaged" in message
    assert f"must be {md5['test_batch']})" in message
    assert "data_batch_1" not in message
    assert "unpack cifar-10-python.tar.gz" in message


def test_a_damaged_meta_file_is_named(named):
    (named / "cifar-10-batches-py" / "batches.meta").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"batches\.meta is damaged"):
        load()


def test_the_other_set_of_the_two_is_an_error(named):
    with pytest.raises(
        DataError, match=r"does not hold CIFAR-100:\n.*there is no cifar-100-python in it, only CIFAR-10"
    ):
        load("cifar100")


def test_one_folder_too_deep_is_recognised(named, monkeypatch):
    monkeypatch.setenv("CNNLIB_DATA", str(named / "cifar-10-batches-py"))
    with pytest.raises(DataError, match="name the folder that holds cifar-10-batches-py"):
        load()


def test_a_folder_that_does_not_exist_is_an_error(named, monkeypatch):
    monkeypatch.setenv("CNNLIB_DATA", str(named / "nowhere"))
    with pytest.raises(DataError, match="there is no such folder"):
        load()


def test_a_folder_into_which_one_may_not_look_is_an_error(tmp_path, monkeypatch):
    """``Path.is_dir`` raises there, in some versions of Python, and ``os.path.isdir`` does not."""

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setenv("CNNLIB_DATA", str(tmp_path))
    monkeypatch.setattr(Path, "is_dir", denied)
    with pytest.raises(DataError, match="there is no cifar-10-batches-py in it"):
        load()


# The cache and the downloads into it.


def test_a_download_fills_the_cache_and_is_not_repeated(tiny, host, cache, monkeypatch):
    monkeypatch.setenv("CNNLIB_MIRRORS", host.url("good"))
    first = load(progress=False)
    assert first.origin == f"downloaded from 127.0.0.1:{host.http.server_port}"
    second = load()
    assert second.origin == "the cache"
    assert torch.equal(first.train_images, second.train_images)
    assert fetch() == "the cache"
    assert host.requests == ["/good/cifar-10-python.tar.gz"]
    assert [path.name for path in cache.iterdir()] == ["cifar-10-batches-py"]
    assert sorted(path.name for path in (cache / "cifar-10-batches-py").iterdir()) == sorted(tiny["cifar10"].files)


def test_mirrors_are_tried_in_order_and_then_the_original_host(tiny, host, refusing, cache, monkeypatch):
    monkeypatch.setenv("CNNLIB_MIRRORS", f"{refusing}/ {host.url('missing/')} {host.url('corrupt')}")
    monkeypatch.setattr(datasets.CIFAR10, "url", host.url("good"))
    load(progress=False)
    assert [path.split("/")[1] for path in host.requests] == ["missing", "corrupt", "good"]


def test_a_damaged_cache_is_mended(tiny, host, cache, monkeypatch):
    monkeypatch.setenv("CNNLIB_MIRRORS", host.url("good"))
    tiny["cifar10"].unpack(cache)
    (cache / "cifar-10-batches-py" / "data_batch_4").write_bytes(b"damaged")
    load(progress=False)
    assert all(check.ok for check in verify())
    assert len(host.requests) == 1


def test_offline_nothing_is_requested(tiny, host, cache, monkeypatch):
    monkeypatch.setenv("CNNLIB_MIRRORS", host.url("good"))
    monkeypatch.setenv("CNNLIB_OFFLINE", "1")
    with pytest.raises(DataError, match="CNNLIB_OFFLINE is set and CIFAR-10 is not in the cache"):
        fetch()
    assert not host.requests


def test_offline_the_wrong_files_of_a_cache_are_named(tiny, host, cache, monkeypatch):
    monkeypatch.setattr(cifar, "shapes10", lambda: shapes10(20, 10))
    monkeypatch.setenv("CNNLIB_MIRRORS", host.url("good"))
    monkeypatch.setenv("CNNLIB_OFFLINE", "1")
    folder = tiny["cifar10"].unpack(cache) / "cifar-10-batches-py"
    content = tiny["cifar10"].files["data_batch_1"]
    (folder / "data_batch_1").write_bytes(content[:-2] + bytes(byte ^ 1 for byte in content[-2:]))
    (folder / "test_batch").unlink()
    with pytest.raises(DataError) as of_fetch:
        fetch()
    with pytest.raises(DataError) as of_load:
        load(stand_in=False)
    with pytest.warns(StandInWarning) as caught:
        load()
    for message in (str(of_fetch.value), str(of_load.value), str(caught[0].message)):
        assert f"CNNLIB_OFFLINE is set and CIFAR-10 in the cache, {cache}, is not whole" in message
        assert "cifar-10-batches-py/data_batch_1 is damaged (md5 " in message
        assert "cifar-10-batches-py/test_batch is missing" in message
        assert "data_batch_2" not in message
        assert "not in the cache" not in message
    assert not host.requests


def test_a_cache_that_cannot_be_written_is_an_error_that_names_the_setting(tiny, host, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("CNNLIB_MIRRORS", host.url("good"))
    (tmp_path / "file").touch()
    monkeypatch.setenv("CNNLIB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match="set CNNLIB_CACHE to another folder"):
        fetch(progress=False)


def test_what_a_killed_process_left_behind_is_removed_after_a_day(tiny, host, cache, monkeypatch):
    monkeypatch.setenv("CNNLIB_MIRRORS", host.url("good"))
    old, recent = cache / ".download-old", cache / ".download-recent"
    for folder in (old, recent):
        folder.mkdir(parents=True)
        (folder / "archive").touch()
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(old, (two_days_ago, two_days_ago))
    fetch(progress=False)
    assert not old.exists()
    assert recent.exists()


def test_patience_lets_a_slow_host_deliver(tiny, host, cache, monkeypatch):
    monkeypatch.setenv("CNNLIB_MIRRORS", host.url("slow"))
    monkeypatch.setattr(cifar, "Limits", lambda: Limits(rate=400e3, window=0.8))
    with pytest.raises(DataError, match=r"slower than .*\n.*\n.*data fetch cifar10 --patient"):
        fetch(progress=False)
    fetch(progress=False, patient=True)
    assert all(check.ok for check in verify())


def test_two_processes_at_once_leave_a_sound_cache(host, cache, start, monkeypatch):
    monkeypatch.setenv("CNNLIB_MIRRORS", host.url("together"))  # answers when both have asked
    processes = [start("data = load(progress=False, patient=True); print(data.origin, data.mean)") for _ in range(2)]
    outputs = [process.communicate(timeout=180) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0] == outputs[1]
    assert outputs[0][0].startswith("downloaded from 127.0.0.1")
    assert len(host.requests) == 2
    assert all(check.ok for check in verify())
    assert [path.name for path in cache.iterdir()] == ["cifar-10-batches-py"]


def test_an_interrupted_download_leaves_nothing(host, cache, start, monkeypatch):
    monkeypatch.setenv("CNNLIB_MIRRORS", host.url("stalled"))
    process = start("fetch(patient=True)")
    assert host.half_sent.wait(180)
    assert list(cache.rglob("*"))
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=180)
    assert "KeyboardInterrupt" in stderr
    assert process.returncode != 0
    assert not list(cache.iterdir())


# Shapes-10 in place of CIFAR.


@pytest.mark.parametrize(("name", "full_name"), [("cifar10", "CIFAR-10"), ("cifar100", "CIFAR-100")])
def test_shapes10_stands_in_loudly_where_no_host_delivers(tiny, host, refusing, cache, monkeypatch, name, full_name):
    monkeypatch.setattr(cifar, "shapes10", lambda: shapes10(20, 10))
    monkeypatch.setenv("CNNLIB_MIRRORS", host.url("missing"))
    with pytest.warns(StandInWarning) as caught:
        data = load(name, progress=False)
    (message,) = [str(warning.message) for warning in caught]
    assert message.startswith(f"SHAPES-10 STANDS IN FOR {full_name}, WHICH CANNOT BE HAD: ")
    assert "answered 404 Not Found" in message
    assert refusing in message
    assert "\n" not in message
    assert data.name == "Shapes-10"
    assert data.stands_in_for == full_name
    assert str(data).startswith(f"SHAPES-10, GENERATED, IN PLACE OF {full_name}:")
    assert not list(cache.iterdir())


def test_no_stand_in_if_none_is_wanted(tiny, host, cache, monkeypatch):
    monkeypatch.setenv("CNNLIB_MIRRORS", host.url("missing"))
    with pytest.raises(DataError, match="could not be downloaded"):
        load(stand_in=False, progress=False)


# The command line.


@pytest.fixture
def command(capsys):
    """Run ``python -m cnnlib data ...``; returns the exit status and what was printed."""
    parser = argparse.ArgumentParser()
    cli.add_commands(parser.add_subparsers())

    def run(*arguments: str):
        options = parser.parse_args(["data", *arguments])
        return options.run(options) or 0, capsys.readouterr().out

    return run


def test_fetch_then_verify(tiny, host, cache, command, monkeypatch):
    monkeypatch.setenv("CNNLIB_MIRRORS", host.url("good"))
    status, printed = command("verify")
    assert status == 1
    assert printed.count("missing") == 7
    status, printed = command("fetch")
    assert status == 0
    assert f"verified in {cache}" in printed
    status, printed = command("verify")
    assert status == 0
    assert printed.count(": ok") == 7


def test_fetch_mentions_that_cnnlib_data_goes_first(named, command, monkeypatch):
    monkeypatch.setattr(cli, "fetch", lambda name, patient: "downloaded from a host")
    _, printed = command("fetch", "--patient")
    assert f"CNNLIB_DATA is set, so trainings read {named} instead" in printed


def test_show_describes_the_set_and_writes_samples(named, command, tmp_path):
    status, printed = command("show", "cifar10", "--out", str(tmp_path / "samples.png"))
    assert status == 0
    assert "CIFAR-10: 100 training and 20 test images, 32x32 RGB, 10 classes" in printed
    assert "the folder named by CNNLIB_DATA" in printed
    assert "class 0, class 1" in printed
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.size == (2 * (10 * 34 + 2), 2 * (10 * 34 + 2))  # as many as there are of a class: ten


def test_samples_that_cannot_be_written_are_one_clear_error(named, command, tmp_path):
    with pytest.raises(DataError, match="cannot be written"):
        command("show", "--out", str(tmp_path / "no-such-folder" / "samples.png"))


@pytest.mark.parametrize("name", ["shapes10", "imagenet"])
def test_only_cifar_sets_are_downloaded_and_verified(name):
    for ask in (fetch, verify):
        with pytest.raises(DataError, match=f"only cifar10 and cifar100 are downloaded and verified, not '{name}'"):
            ask(name)


def test_a_name_that_is_no_word_is_unknown():
    for ask in (load, fetch, verify):
        with pytest.raises(DataError, match="unknown data set None; choose one of cifar10, "):
            ask(None)
