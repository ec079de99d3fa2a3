import hashlib
import re
import time
from dataclasses import replace

import pooch
import pytest

from cnnlib.data import cifar
from cnnlib.data.download import Limits, download
from cnnlib.data.images import DataError

ENDLESS = Limits(answer=100, silence=100, rate=0)

pytestmark = pytest.mark.network


@pytest.fixture
def md5(host):
    return hashlib.md5(host.content).hexdigest()


def attempt(urls, md5, folder, limits=ENDLESS, progress=False):
    return download(urls, "archive.tar.gz", md5, folder, limits=limits, progress=progress)


@pytest.mark.parametrize("manner", ["good", "redirecting", "unsized", "chunked", "labelled_gzip", "compressing"])
def test_a_host_that_delivers(host, md5, cache, tmp_path, manner):
    file, name = attempt([host.url(manner)], md5, tmp_path)
    assert file == tmp_path / "archive.tar.gz"
    assert file.read_bytes() == host.content
    assert name == f"127.0.0.1:{host.http.server_port}"


# Each of the limits by itself. The archive has 0.4 MB, which the host called `slow` takes 1.5 seconds to send. The one
# called `tiring` sends most of it at once and the last tenth in 3 seconds: on the whole it is fast enough.
TIMED_FAULTS = {
    "mute": (replace(ENDLESS, answer=1.5), "no answer within 1.5 s"),
    "stalled": (replace(ENDLESS, silence=1), "sent nothing for 1 s"),
    "dripping": (replace(ENDLESS, rate=400e3, window=0.8), "slower than 400 kB/s over 0.8 s"),
    "slow": (replace(ENDLESS, rate=400e3, window=0.8), "slower than 400 kB/s over 0.8 s"),
    "tiring": (replace(ENDLESS, rate=80e3, window=0.8), "slower than 80 kB/s over 0.8 s"),
}
FAULTS = {
    "truncated": "broke off before the end",
    "circular": "redirects",
    "missing": "answered 404 Not Found",
    "broken": "answered 500 Internal Server Error",
}


@pytest.mark.parametrize("fault", [*TIMED_FAULTS, *FAULTS])
def test_a_faulty_host_is_left_for_the_next(host, md5, cache, tmp_path, capfd, fault):
    started = time.monotonic()
    limits, reason = TIMED_FAULTS.get(fault) or (ENDLESS, FAULTS[fault])
    attempt([host.url(fault), host.url("good")], md5, tmp_path, limits, progress=True)
    assert time.monotonic() - started < 60
    (given_up,) = re.findall("Given up: (.*)", capfd.readouterr().err)
    assert given_up.startswith(f"{host.url(fault)}: ")
    assert reason in given_up
    assert [file.name for file in tmp_path.iterdir()] == ["archive.tar.gz"]


def test_a_host_that_refuses_is_left_for_the_next(host, refusing, md5, cache, tmp_path):
    attempt([refusing, host.url("good")], md5, tmp_path)
    assert len(host.requests) == 1


def test_a_corrupt_file_is_never_used_and_both_sums_are_named(host, md5, cache, tmp_path):
    wrong = hashlib.md5(host.content[:-1] + bytes([host.content[-1] ^ 1])).hexdigest()
    with pytest.raises(DataError) as error:
        attempt([host.url("corrupt")], md5, tmp_path)
    for part in ("archive.tar.gz", md5, wrong):
        assert part in str(error.value)
    assert not list(tmp_path.iterdir())


def test_every_host_and_its_fault_is_in_the_message_and_nothing_is_left_behind(host, refusing, md5, cache, tmp_path):
    urls = {host.url(fault): reason for fault, reason in FAULTS.items()}
    urls[refusing] = "cannot be reached (Connection refused)"
    urls["http://no-such-host.invalid/x"] = "cannot be reached"
    with pytest.raises(DataError) as error:
        attempt(urls, md5, tmp_path)
    first, *lines = str(error.value).splitlines()
    assert first == "archive.tar.gz could not be downloaded"
    assert len(lines) == len(urls)
    for line, (url, reason) in zip(lines, urls.items(), strict=True):
        assert line.startswith(f"{url}: ")
        assert reason in line
    assert not list(tmp_path.iterdir())


def test_without_a_minimum_rate_a_slow_host_will_do(host, md5, cache, tmp_path):
    file, _ = attempt([host.url("slow")], md5, tmp_path, limits=replace(ENDLESS, window=0.1))
    assert file.read_bytes() == host.content


def test_progress_shows_host_size_rate_and_time_left(host, md5, cache, tmp_path, capfd):
    attempt([host.url("slow/archive.tar.gz")], md5, tmp_path, progress=True)
    shown = capfd.readouterr().err
    assert f"archive.tar.gz from 127.0.0.1:{host.http.server_port}" in shown
    assert f"/{len(host.content) / 1e3:.0f}k" in shown
    assert "kB/s" in shown
    assert "<00:0" in shown


def test_no_progress_is_silence(host, md5, cache, tmp_path, capfd, caplog):
    level = pooch.get_logger().level
    attempt([host.url("missing"), host.url("good")], md5, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.name == pooch.get_logger().name]
    assert pooch.get_logger().level == level


def test_the_stated_time_is_what_the_limits_add_up_to():
    assert Limits().longest == 60


def test_a_host_that_gives_less_than_100_kb_a_second_is_too_slow():
    assert (Limits().rate, cifar.PATIENT.rate) == (100e3, 0)
