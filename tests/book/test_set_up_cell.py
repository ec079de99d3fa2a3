"""The first cell of the notebooks, run where what Colab ships is installed, which it must leave alone."""

import http.server
import json
import shutil
import subprocess
import sys
import threading
import zipfile
from functools import partial
from pathlib import Path

import pytest
from cnnbook.notebooks import ROOT, Repository

# What Colab ships. torch and torchvision weigh gigabytes, so empty packages of their versions stand in for them.
SHIPPED = {"numpy": "2.1.3", "ipywidgets": "7.7.1", "ipython": "7.34.0"}
STAND_INS = {"torch": "2.11.0", "torchvision": "0.26.0"}
NOT_IN_THE_ARCHIVE = shutil.ignore_patterns(".*", "_build", "build", "dist", "__pycache__", "*.egg-info")

pytestmark = pytest.mark.network


def run(*command, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, **options)


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    """The Python of an environment with what Colab ships."""
    folder = tmp_path_factory.mktemp("colab")
    run(sys.executable, "-m", "venv", folder, check=True)
    python = folder / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    installed = run(*pip, f"numpy=={SHIPPED['numpy']}", f"ipython=={SHIPPED['ipython']}")
    if installed.returncode:
        pytest.skip(f"no package index here: {installed.stderr.strip().splitlines()[-1]}")
    run(*pip, "--no-deps", f"ipywidgets=={SHIPPED['ipywidgets']}", check=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    for name, version in STAND_INS.items():
        (site / name).mkdir()
        (site / name / "__init__.py").touch()
        info = site / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return python


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A zip of this repository, as GitHub makes one."""
    folder = tmp_path_factory.mktemp("archive")
    shutil.copytree(ROOT, folder / "cnnlib-main", ignore=NOT_IN_THE_ARCHIVE)
    return Path(shutil.make_archive(folder / "main", "zip", folder, "cnnlib-main"))


@pytest.fixture(scope="module")
def address(archive):
    """Its address on a server on 127.0.0.1."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=archive.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{archive.name}"
        server.shutdown()


def versions(python):
    listed = run(python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check", check=True)
    return {package["name"].lower(): package["version"] for package in json.loads(listed.stdout)}


def test_cell_installs_cnnlib_and_leaves_the_rest_alone(colab, archive, address, tmp_path):
    repository = Repository.configured()
    source = repository.set_up_source()
    assert repository.archive in source
    cell = tmp_path / "cell.ipy"
    cell.write_text(source.replace(repository.archive, address), encoding="utf-8")
    before = versions(colab)
    assert before | SHIPPED | STAND_INS == before

    ran = run(colab, "-m", "IPython", "--quick", "--colors=NoColor", cell, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    after = versions(colab)
    assert after | before == after, "the cell changed a package that was there"
    assert after.keys() - before.keys() == {"cnnlib", "torchinfo", "pooch", "platformdirs"}

    packed = [name.partition("/")[2] for name in zipfile.ZipFile(archive).namelist()]
    wanted = {name for name in packed if name.startswith("cnnlib/") and not name.endswith("/")}
    site = next(colab.parent.parent.glob("lib/python*/site-packages"))
    assert "cnnlib/models/alexnet.py" in wanted
    assert {name for name in wanted if not (site / name).exists()} == set()


def test_cell_does_nothing_where_cnnlib_is_at_hand(tmp_path):
    cell = tmp_path / "cell.ipy"
    cell.write_text(Repository.configured().set_up_source().replace("https://", "nowhere://"), encoding="utf-8")
    ran = run(sys.executable, "-m", "IPython", "--quick", "--colors=NoColor", cell, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    assert "nowhere" not in ran.stdout + ran.stderr
