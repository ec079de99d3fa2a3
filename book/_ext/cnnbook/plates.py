"""The plates of the atlas: which networks share one, and what is computed and drawn for them.

Networks of one paper that one function builds for one data set differ in sizes only, or in the block that the function
is given. They share a plate: one drawing of the whole net with its blocks folded, and one of each kind of block. To
measure and draw all of them takes a minute, so results are kept in the build folder, in one file a plate whose name
tells from which sources they were made.
"""

from __future__ import annotations

import atexit
import functools
import gc
import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from cnnbook.notebooks import ROOT
from cnnlib import models
from cnnlib.explore import diagram, drawing
from cnnlib.explore.graph import Card, is_level, network_graph
from cnnlib.files import locked, write_json
from cnnlib.measure import UnsupportedOperation, activation_bytes, receptive_field
from cnnlib.models import ModelCard, Paper, available, card, create

PACKAGE = ROOT / "cnnlib"
DRAWN_BY = ("drawing.py", "graph.py", "html.py", "layout.py", "style.py", "assets/diagram.css")
MOST_BLOCKS = 4
"""So many kinds of block are drawn on one plate."""
MOST_CARDS = 60
"""So many cards a drawing may have; what has more is folded."""
FEW = 3
"""So many plates are made in this process: to start others takes seconds."""


@dataclass(frozen=True)
class Plate:
    """Networks that share their form.

    ``of`` is the class or function of :mod:`cnnlib.models` that builds them. ``slug`` is the plate's name in addresses.
    """

    family: str
    of: Callable[..., nn.Module]
    paper: Paper
    models: tuple[ModelCard, ...]

    @property
    def slug(self) -> str:
        return self.models[0].name

    @property
    def title(self) -> str:
        first, last = self.models[0].name, self.models[-1].name
        return first if first == last else f"{first} {'to' if len(self.models) > 2 else 'and'} {last}"


@dataclass(frozen=True)
class Numbers:
    """What is measured of one network: receptive field of its last map, and memory of its outputs for one image."""

    field: str
    activation_bytes: int


@dataclass(frozen=True)
class Drawing:
    """A drawing of a plate: what it shows, the same in words, its size in pixels, and the file names of its themes."""

    title: str
    words: str
    width: int
    height: int
    light: str
    dark: str


@dataclass(frozen=True)
class Content:
    """What a plate shows besides the cards of its networks."""

    numbers: dict[str, Numbers]
    drawings: tuple[Drawing, ...]


def builder(model: ModelCard) -> Callable[..., nn.Module]:
    """The class or function that builds a network, whatever arguments it is given."""
    build = model.build
    while isinstance(build, functools.partial):
        build = build.func
    return build


def plates() -> list[Plate]:
    """All plates, oldest first. Every registered network is on exactly one."""
    found: dict[tuple, list[ModelCard]] = {}
    for model in map(card, available()):
        found.setdefault((model.family, builder(model), model.dataset, model.paper), []).append(model)
    return [Plate(family, of, paper, tuple(group)) for (family, of, _, paper), group in found.items()]


# ---- measuring and drawing -------------------------------------------------------------------------------------------


def make(plate: Plate, folder: Path) -> Content:
    """Measure the networks of a plate, and draw them into ``folder``: the first whole, blocks from the smallest on."""
    nets = {}
    for model in plate.models:
        with torch.device("meta"):
            nets[model] = create(model.name).eval()
    numbers = {
        model.name: Numbers(field(net, model.input_size), activation_bytes(net, model.input_size))
        for model, net in nets.items()
    }
    first = plate.models[0]
    drawings = [draw(nets[first], first.input_size, first.name, first.name, folder, depth=1)]
    known, titles = set(), Counter()
    for model in sorted(nets, key=lambda model: sum(1 for _ in nets[model].modules())):
        forms = set(map(form_of, outermost(nets[model])))
        if forms <= known:
            continue
        for block, size in blocks(network_graph(nets[model], model.input_size, depth=1), nets[model]):
            if form_of(block) not in known and len(drawings) <= MOST_BLOCKS:
                known.add(form_of(block))
                titles[type(block)] += 1
                number = f" {titles[type(block)]}" * (titles[type(block)] > 1)
                title = f"{type(block).__name__}{number} of {model.name}"
                drawings.append(draw(block, size, title, f"{first.name}-{len(drawings)}", folder))
        known |= forms
    return Content(numbers, tuple(drawings))


def field(net: nn.Module, input_size: tuple[int, int, int]) -> str:
    """The receptive field of a network's last map, in words that tables use; nothing where no rule tells it."""
    try:
        return receptive_field(net, input_size).final.size_text.replace("x", "×")
    except UnsupportedOperation:
        return ""


class Fed(nn.Module):
    """A block of several inputs, fed with one map in place of all of them."""

    def __init__(self, block: nn.Module, inputs: int) -> None:
        super().__init__()
        self.block, self.inputs = block, inputs

    def forward(self, x: Tensor) -> Tensor:
        return self.block(*[x] * self.inputs)


def outermost(module: nn.Module) -> Iterator[nn.Module]:
    """The blocks of a network that lie in no other block."""
    for child in module.children():
        if is_level(child):
            yield child
        else:
            yield from outermost(child)


def blocks(cards: list[Card], net: nn.Module) -> Iterator[tuple[nn.Module, tuple[int, ...]]]:
    """The blocks that a folded drawing shows, with the size of what each reads; not those that read several sizes."""
    for one in cards:
        sizes = {cards[source].shape for source in one.sources}
        if one.kind == "block" and len(sizes) == 1 and () not in sizes:
            yield net.get_submodule(one.modules[0]), sizes.pop()


def form_of(block: nn.Module) -> frozenset:
    """What tells two kinds of block apart: the classes of their parts, windows, and whether there are groups.

    Widths do not count, nor how often a part repeats, nor whether the block halves the maps or has a projection on its
    shortcut.
    """
    return frozenset(
        (
            name.count(".") == 0 and type(part),
            type(part),
            getattr(part, "kernel_size", None),
            getattr(part, "groups", 1) > 1,
        )
        for name, part in block.named_modules()
        if "shortcut" not in name
    )


def draw(
    module: nn.Module, size: tuple[int, ...], title: str, stem: str, folder: Path, depth: int | None = None
) -> Drawing:
    """Draw a module into two files, one a theme. What is too long is folded, in the end down to its smallest units."""
    inputs = len(inspect.signature(module.forward).parameters)
    drawn = Fed(module, inputs) if inputs > 1 else module
    closed = ()
    if len(network_graph(drawn, size, depth=depth)) > MOST_CARDS:
        depth, small = 1, {type(part) for part in module.modules() if ours(part) and part is not module}
        closed = tuple(small) if len(network_graph(drawn, size, depth=depth)) > MOST_CARDS else ()
    shown = diagram(drawn, size, id="drawing", title=title, depth=depth, closed=closed)
    names = {}
    for theme in ("light", "dark"):
        names[theme] = f"{stem}-{theme}.svg"
        text = drawing.document(shown, theme)
        (folder / names[theme]).write_text(text, encoding="utf-8")
    width, height = (round(float(n)) for n in re.search(r'width="(\S+)" height="(\S+)"', text).groups())
    return Drawing(title, shown.text.removeprefix(f"{title}: "), width, height, **names)


def ours(module: nn.Module) -> bool:
    """Whether a module is of a class that this package makes of several layers."""
    return type(module).__module__.startswith("cnnlib.") and any(module.children())


# ---- kept results ----------------------------------------------------------------------------------------------------


def sources(*files: ModuleType) -> set[Path]:
    """The paths of files of ``cnnlib.models`` and of those that they import."""
    waiting, seen = [Path(file.__file__) for file in files], set()
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            imports = re.findall(
                r"^from cnnlib\.models(?:\.(\w+))? import (.+)$", path.read_text("utf-8"), re.MULTILINE
            )
            names = [name.strip() for file, listed in imports for name in ([file] if file else listed.split(","))]
            waiting += [one for one in (path.with_name(f"{name}.py") for name in names) if one.exists()]
    return seen


def key(plate: Plate) -> str:
    """A digest of all that the content of a plate depends on."""
    files = {Path(__file__), *(PACKAGE / "measure").glob("*.py"), *(PACKAGE / "explore" / name for name in DRAWN_BY)}
    files |= sources(inspect.getmodule(plate.of), home(plate))
    digest = hashlib.sha256(repr([(model.name, model.input_size) for model in plate.models]).encode())
    for path in sorted(files):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def home(plate: Plate) -> ModuleType:
    """The file of a plate's networks: that of what builds them if it names their paper, else the one that does."""
    files = (value for _, value in sorted(vars(models).items()) if inspect.ismodule(value))
    for file in (inspect.getmodule(plate.of), *files):
        if plate.paper in (value for value in vars(file).values() if isinstance(value, Paper)):
            return file
    raise LookupError(f"no file of cnnlib.models names the paper of {plate.title}")


_running: dict[Path, list[subprocess.Popen]] = {}
"""The processes that make plates, by the folder they make them into."""


def path_of(plate: Plate, folder: Path) -> Path:
    """Where the content of a plate is kept."""
    return folder / f"{plate.slug}.{key(plate)}.json"


def begin(wanted: Sequence[Plate], folder: Path) -> None:
    """Begin to make the plates that ``folder`` lacks, as many at once as cores; a few are left to :func:`contents`."""
    missing = [plate for plate in wanted if not path_of(plate, folder).exists()]
    if len(missing) <= FEW:
        return
    slugs = [plate.slug for plate in sorted(missing, key=work, reverse=True)]
    workers = min(os.cpu_count() or 1, len(slugs))
    command = [sys.executable, "-m", __name__, str(folder)]
    paths = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), *sys.path)))
    _running[folder] = []
    for first in range(workers):
        process = subprocess.Popen([*command, *slugs[first::workers]], env=os.environ | {"PYTHONPATH": paths})
        _running[folder].append(process)
        atexit.register(process.terminate)  # which does nothing once it has been waited for


def contents(wanted: Sequence[Plate], folder: Path) -> dict[str, Content]:
    """The contents of plates by slug: from ``folder`` if they are there, else made now or as :func:`begin` began."""
    if folder not in _running:
        begin(wanted, folder)
    statuses = [process.wait() for process in _running.pop(folder, ())]
    if any(statuses):
        raise RuntimeError("the plates of the atlas could not all be made; see the messages above")
    for plate in wanted:
        if not path_of(plate, folder).exists():
            keep(plate.slug, folder)
    return {plate.slug: load(path_of(plate, folder)) for plate in wanted}


def work(plate: Plate) -> int:
    """How much there is to do, roughly: the numbers in the names, which are depths, so that the longest comes first."""
    return sum(int(number) for model in plate.models for number in re.findall(r"\d{2,4}", model.name))


def keep(slug: str, folder: Path) -> None:
    """Make a plate's content and write it down, unless it is there; what older sources gave is removed.

    Processes that read the book side by side wait here for the one that makes it.
    """
    plate = next(plate for plate in plates() if plate.slug == slug)
    path = path_of(plate, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(path, wait=True):
        if path.exists():
            return
        content = make(plate, folder)
        for old in folder.glob(f"{slug}.*.json"):
            old.unlink()
        write_json(path, asdict(content))


def load(path: Path) -> Content:
    """Read a plate's content."""
    content = json.loads(path.read_text(encoding="utf-8"))
    numbers = {name: Numbers(**one) for name, one in content["numbers"].items()}
    return Content(numbers, tuple(Drawing(**one) for one in content["drawings"]))


if __name__ == "__main__":  # one of several processes that share the work
    torch.set_num_threads(1)
    gc.freeze()  # nothing that is there by now needs to be looked at again
    for name in sys.argv[2:]:
        keep(name, Path(sys.argv[1]))
