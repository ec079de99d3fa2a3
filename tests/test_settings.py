"""The device that trainings run on, by argument, environment or default."""

import pytest
import torch

import cnnlib
from cnnlib import settings
from cnnlib.settings import UnknownBudget, UnknownDevice


def test_the_argument_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv("CNNLIB_DEVICE", "gpu")
    assert cnnlib.device("cpu") == cnnlib.device(torch.device("cpu")) == torch.device("cpu")
    monkeypatch.setenv("CNNLIB_DEVICE", "cpu")
    assert cnnlib.device() == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cpu:x", "meta", "xla", "cuda:64"])
def test_a_device_that_is_not_there_is_one_clear_error(name, monkeypatch):
    with pytest.raises(UnknownDevice, match=f"there is no device {name!r} here; use cpu"):
        cnnlib.device(name)
    monkeypatch.setenv("CNNLIB_DEVICE", name)
    with pytest.raises(UnknownDevice, match=f"there is no device {name!r} here; set CNNLIB_DEVICE to cpu"):
        cnnlib.device()


def test_the_gpus_that_are_there_are_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert cnnlib.device() == torch.device("cuda")
    assert cnnlib.device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UnknownDevice, match="no device 'cuda:2' here; use cpu or cuda:0 or cuda:1"):
        cnnlib.device("cuda:2")


def test_what_the_environment_names_is_to_be_mended_there(monkeypatch):
    monkeypatch.setenv("CNNLIB_DEVICE", "gpu")
    with pytest.raises(UnknownDevice, match="no device 'gpu' here; set CNNLIB_DEVICE to cpu"):
        cnnlib.device()
    monkeypatch.setenv("CNNLIB_BUDGET", "large")
    with pytest.raises(UnknownBudget, match="unknown budget 'large'; set CNNLIB_BUDGET to one of smoke, "):
        cnnlib.budget()
    with pytest.raises(UnknownBudget, match="unknown budget 'huge'; choose one of smoke, "):
        cnnlib.budget("huge")


@pytest.mark.parametrize(("kind", "expected"), [("cuda", "medium"), ("cpu", "short")])
def test_the_budget_follows_the_device_where_nobody_names_one(kind, expected, monkeypatch):
    monkeypatch.delenv("CNNLIB_BUDGET", raising=False)
    monkeypatch.setattr(settings, "device", lambda: torch.device(kind))
    assert cnnlib.budget() == expected


def test_a_device_that_is_no_name_is_one_clear_error():
    with pytest.raises(UnknownDevice, match=r"no device '2\.5' here"):
        cnnlib.device(2.5)


def test_nothing_but_no_name_means_the_default(monkeypatch):
    monkeypatch.setenv("CNNLIB_DEVICE", "cpu")
    monkeypatch.setenv("CNNLIB_BUDGET", "smoke")
    assert (cnnlib.device(""), cnnlib.budget("")) == (torch.device("cpu"), "smoke")
    with pytest.raises(UnknownDevice, match=r"no device '\[\]' here; use cpu"):
        cnnlib.device([])
    for name in (0, False):
        with pytest.raises(UnknownBudget, match=f"unknown budget {name}; choose one of smoke, "):
            cnnlib.budget(name)
