"""Run notebooks and store their outputs, and what they were made with: ``make execute [NOTEBOOK=01]``.

A notebook is replaced only after its last cell has run. The name of the data set, the budget, the hardware and the
versions are asked of the kernel that ran it and kept in the notebook's metadata, from where the book shows them.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from cnnbook import notebooks

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}
EXTENSIONS = str(Path(__file__).resolve().parents[1])
ASK_FACTS = "import json; from cnnbook.execute import facts; print(json.dumps(facts(globals())))"


def facts(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the kernel that holds ``namespace``: data sets seen, budget, hardware, versions."""
    import torch

    import cnnlib
    from cnnlib.data import ImageSet
    from cnnlib.training.hardware import device_in_words

    device = cnnlib.device()
    threads = torch.get_num_threads()
    cores = "" if device.type == "cuda" else f", {threads} thread{'s' if threads > 1 else ''}"
    return {
        "budget": cnnlib.budget(),
        "data": sorted({value.name for value in namespace.values() if isinstance(value, ImageSet)}),
        "hardware": device_in_words(device) + cores,
        "versions": {"python": platform.python_version(), "cnnlib": cnnlib.__version__}
        | {name: version(name) for name in ("torch", "torchvision", "numpy")},
    }


def execute(path: Path) -> None:
    """Run the notebook at ``path`` in its own folder and replace it by its executed form.

    Raises:
        CellExecutionError: if a cell fails; the file is left as it was.
    """
    notebook = notebooks.read(path)
    notebooks.put_set_up_cell(notebook, notebooks.Repository.configured())
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        extra_arguments=["--log-level=40"],
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    start = time.monotonic()
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
            if cell.cell_type == "code":
                first_line = cell.source.strip().partition("\n")[0]
                print(f"{time.monotonic() - start:6.0f} s  {first_line[:100]}", flush=True)
        seconds = round(time.monotonic() - start)
        notebook.cells.append(nbformat.v4.new_code_cell(ASK_FACTS))
        client.execute_cell(notebook.cells[-1], len(notebook.cells) - 1)
        answer = json.loads(notebook.cells.pop().outputs[0].text)
    made = {
        "date": datetime.date.today().isoformat(),
        "seconds": seconds,
        "source": notebooks.source_hash(notebook),
    }
    notebook.metadata = nbformat.from_dict(METADATA | {"cnnlib": answer | made})
    for cell in notebooks.code_cells(notebook):
        clean(cell)
    notebooks.write(path, notebook)


def clean(cell: nbformat.NotebookNode) -> None:
    """Keep what a reader should see: nothing of stderr (printed here instead), no widget, no time stamp."""
    cell.metadata.pop("execution", None)
    for output in cell.outputs:
        if output.get("name") == "stderr" and (said := output.text.strip()):
            print(f"  not stored, from stderr: {said.splitlines()[-1]}")
    cell.outputs = [
        output
        for output in cell.outputs
        if output.get("name") != "stderr" and not any("widget-view" in kind for kind in output.get("data", {}))
    ]


def main(wanted: Sequence[str]) -> int:
    names = [Path(name).name for name in wanted]
    chosen = [path for path in notebooks.paths() if not names or any(name in path.name for name in names)]
    if not chosen:
        print(f"no notebook matches {' '.join(wanted)}; there are: {', '.join(p.name for p in notebooks.paths())}")
        return 2
    os.environ["CNNLIB_STATIC"] = "1"  # widgets become figures that need no kernel
    os.environ["PYTHONPATH"] = os.pathsep.join([EXTENSIONS, *filter(None, [os.environ.get("PYTHONPATH")])])
    for path in chosen:
        print(path.name)
        try:
            execute(path)
        except CellExecutionError as error:
            print(f"{error}\n{path.name}: a cell failed; the file is as it was", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print(f"\nstopped; {path.name} is as it was", file=sys.stderr)
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
