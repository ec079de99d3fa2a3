"""cnnlib beside any build of torchvision, in processes of their own: operators stay declared as long as a process."""

import subprocess
import sys

FORGET = "import sys; [sys.modules.pop(name) for name in list(sys.modules) if name.split('.')[0] == 'cnnlib']"
TORCHVISION_FIRST = """
try:
    import torchvision
except RuntimeError as error:
    print(error)
import cnnlib, torchvision
"""


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_cnnlib_can_be_imported_again():
    assert run(f"import cnnlib\n{FORGET}\nimport cnnlib, importlib, torchvision\nimportlib.reload(cnnlib)").stderr == ""


def test_torchvision_before_cnnlib_is_as_it_is_alone():
    """It is imported, or fails with an error of its own, as beside a CPU build of PyTorch; then cnnlib mends it."""
    first = run(TORCHVISION_FIRST)
    assert first.stderr == ""
    assert first.stdout in ("", "operator torchvision::nms does not exist\n")
