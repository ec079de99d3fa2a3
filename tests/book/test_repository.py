"""Files at the top of the repository that must agree with one another."""

import re
import tomllib

import nbformat
import yaml
from cnnbook import address, notebooks
from cnnbook.notebooks import ROOT, Repository
from packaging.requirements import Requirement
from packaging.version import Version
from pybtex.database import parse_file

REPOSITORY = Repository.configured()


def pins():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line.partition("#")[0]) for line in lines if line.partition("#")[0].strip()]
    return {requirement.name.lower().replace("_", "-"): str(requirement.specifier) for requirement in requirements}


def test_every_requirement_is_pinned():
    assert [name for name, version in pins().items() if not re.fullmatch(r"==[\w.]+", version)] == []


def test_pins_satisfy_the_lower_bounds_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in map(Requirement, project["dependencies"]):
        assert all(bound.operator == ">=" for bound in requirement.specifier), "lower bounds only"
        assert requirement.specifier.contains(Version(pins()[requirement.name].removeprefix("==")))


def test_address_is_the_configured_one_everywhere():
    for name in address.TEXTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        found = set(re.findall(r"github\.com/[\w-]+/[\w-]+|[\w-]+\.github\.io/[\w-]+", text))
        expected = {f"github.com/{REPOSITORY.slug}", REPOSITORY.pages.removeprefix("https://").strip("/")}
        assert found <= expected, f"{name}: run `make address`"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["repository-code"] == REPOSITORY.url


def test_another_address_is_written_everywhere(tmp_path, monkeypatch):
    for name in address.TEXTS:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(address, "ROOT", tmp_path)
    monkeypatch.setattr(notebooks, "paths", list)
    theirs = Repository("https://github.com/someone/their-fork", "trunk")
    monkeypatch.setattr(Repository, "configured", lambda: theirs)
    address.main()
    written = {name: (tmp_path / name).read_text(encoding="utf-8") for name in address.TEXTS}
    assert not any(REPOSITORY.slug in text or REPOSITORY.pages in text for text in written.values())
    assert theirs.colab("notebooks/01-alexnet-arithmetic.ipynb") in written["README.md"]
    assert {*re.findall(r"/blob/([^/]+)/", written["README.md"])} == {"trunk"}
    assert f"git clone {theirs.url} cnnlib && cd cnnlib\n" in written["book/how-to-read.md"]
    workflow = yaml.safe_load(written[".github/workflows/book.yml"])
    assert workflow[True]["push"]["branches"] == ["trunk"]  # to YAML "on" is true
    assert "github.ref == 'refs/heads/trunk'" in workflow["jobs"]["publish"]["if"]


def test_a_slash_at_the_end_of_the_address_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    (tmp_path / "_config.yml").write_text(f"repository: {{url: {REPOSITORY.url}/}}", encoding="utf-8")
    assert Repository.configured() == Repository(REPOSITORY.url)


def test_readme_lists_every_chapter_with_its_colab_badge():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert REPOSITORY.colab(f"notebooks/{path.name}") in readme
        assert f"{REPOSITORY.pages}notebooks/{path.stem}.html" in readme
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", readme):
        assert (ROOT / link).exists(), link


def test_version_is_the_same_everywhere():
    import cnnlib

    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == cnnlib.__version__


def test_chapter_7_quotes_the_measured_gpu():
    chapter = nbformat.read(ROOT / "notebooks" / "07-efficient-nets.ipynb", as_version=4)
    (cell,) = (cell for cell in chapter.cells if cell.id == "roof-gpu")
    quoted = [float(number) for number in re.findall(r"([\d_.]+)e9", cell.source)]
    measured = (ROOT / "book" / "measured" / "bench-h200.txt").read_text(encoding="utf-8")
    one_line = " ".join(measured.split()).replace(",", "")
    rates = [float(rate) for rate in re.findall(r"([\d.]+) GFLOP/s;", one_line)]
    copies = [float(rate) for rate in re.findall(r"moves ([\d.]+) GB/s", one_line)]
    assert len(quoted) == 3
    assert quoted == [copies[0], *rates[:2]]


def test_papers_of_the_models_are_in_the_bibliography():
    from cnnlib import available, card

    entries = parse_file(ROOT / "book" / "references.bib").entries
    for paper in {card(name).paper for name in available()}:
        entry = entries[paper.key]
        assert re.sub(r"[{}$]", "", entry.fields["title"]).lower() == paper.title.lower()
        assert entry.fields.get("eprint", paper.arxiv) == paper.arxiv
        assert (
            abs(int(entry.fields["year"]) - paper.year) <= 2
        )  # a preprint may be two years older than its publication


def test_commands_of_the_workflow_exist():
    workflow = (ROOT / ".github" / "workflows" / "book.yml").read_text(encoding="utf-8")
    assert yaml.safe_load(workflow)["jobs"].keys() == {"test", "publish", "newest"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "- run: .ci/run" in workflow
    for target in re.findall(r"^make (\w+)", run, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
