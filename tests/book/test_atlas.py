"""The atlas: every network on one card, with the numbers that are computed; its filter; its drawings."""

import os
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup
from cnnbook import atlas, plates
from cnnbook.plates import Numbers

from cnnlib import measure, models, studies
from cnnlib.explore.graph import network_graph

PLATES = plates.plates()
MOST_BYTES_OF_A_DRAWING = 40_000


@pytest.fixture(scope="module")
def document(html):
    return BeautifulSoup((html / "book" / "atlas.html").read_text(encoding="utf-8"), "html.parser")


@pytest.fixture(scope="module")
def cards(document):
    """Each card of the page with the rows of its networks."""
    return {
        card["id"].removeprefix("plate-"): (card, {row.code.text: row for row in card.table.tbody.select("tr")})
        for card in document.select("section.atlas-plate")
    }


# ---- what is on the cards --------------------------------------------------------------------------------------------


def test_every_network_is_on_exactly_one_card(cards):
    listed = Counter(name for _, rows in cards.values() for name in rows)
    assert listed == Counter(models.available())


def test_every_card_says_what_is_published(cards):
    for card, rows in cards.values():
        for name, row in rows.items():
            model = models.card(name)
            assert f"{model.parameters:,}" in row.text
            assert model.about in row.text.replace("’", "'")
            for error in model.published:
                assert f"{error.value:g}" in card.text
                assert error.protocol in card.text.replace("’", "'")
                assert re.sub(r"\s", "", error.source) in re.sub(r"\s", "", card.text)
            assert f"{model.paper.year}, {model.paper.authors}" in card.select_one(".atlas-paper").text


def test_every_family_cites_its_papers(document):
    for plate in PLATES:
        family = document.find(id=f"family-{plate.family}")
        (entry,) = (entry for entry in family.select(":scope > ul > li") if plate.paper.title in entry.text)
        assert "references.html#" in entry.select_one("a[href]")["href"]


def test_every_card_leads_to_the_code(cards):
    for card, _ in cards.values():
        addresses = [link["href"] for link in card.select(".atlas-paper a[href]")]
        assert any(re.search(r"api/networks-\S+\.html#cnnlib\.models\.", address) for address in addresses), card["id"]


@pytest.mark.parametrize("plate", PLATES, ids=[plate.slug for plate in PLATES])
def test_numbers_are_those_of_the_measures(cards, plate):
    """On the smallest network of each card, for the others come by the same way."""
    model = min(plate.models, key=lambda model: model.parameters)
    net = models.create(model.name)
    table = measure.layer_table(net, model.input_size)
    cells = [cell.text for cell in cards[atlas.address(plate)][1][model.name].select("td")]
    assert int(cells[1].replace(",", "")) == table.total.parameters
    assert cells[2] == f"{table.total.multiply_adds / 1e6:,.1f} M"
    assert cells[4] == f"{table.total.activation_bytes / 1e6:,.1f} MB"
    if table.fields_missing:
        assert cells[3] == ""
    else:
        assert cells[3].replace("×", "x") == measure.receptive_field(net, model.input_size).final.size_text


def test_results_of_ours_are_those_of_the_records(cards):
    shown = Counter(
        tuple(cell.text for cell in row.select("td")[2:])
        for card, _ in cards.values()
        for table in card.select("table")[1:]
        for row in table.tbody.select("tr")
    )
    expected = Counter()
    for study in studies.STUDIES.values():
        errors = defaultdict(list)
        for record in studies.load_records(study):
            errors[record.arm, record.run.budget].append(record.run.test_error)
        for (_, budget), values in errors.items():
            expected[budget, f"{studies.summarise(values)} %", str(len(values))] += 1
    assert shown == expected
    assert sum(shown.values()) > 20


def test_a_network_is_a_row():
    numbers = Numbers("81", 2_335_016)
    assert atlas.row(models.card("resnet20"), numbers) == (
        "| `resnet20`<br>20 layers for 32x32 images, with shortcuts. CIFAR-10, 3×32×32 | 269,722 | 40.6 M | 81 | "
        "2.3 MB | 8.75 % test error (1 run), He et al. 2015, Table 6 |"
    )
    assert atlas.row(models.card("lenet5"), numbers).endswith("| 61,706 | 0.4 M | 81 | 2.3 MB |  |")


def test_a_study_leads_to_the_chapter_that_shows_it():
    assert atlas.chapters()["degradation"] == "02-vgg-receptive-field.ipynb"
    assert atlas.chapters().keys() <= studies.STUDIES.keys()


# ---- the drawings ----------------------------------------------------------------------------------------------------


def test_drawings_are_small_files_beside_the_page(html, document):
    images = document.select(".atlas-drawings img")
    assert len(images) >= 4 * len(PLATES)
    for image in images:
        path = (html / "book" / image["src"]).resolve()
        assert image["loading"] == "lazy"
        assert path.stat().st_size <= MOST_BYTES_OF_A_DRAWING, path.name
        svg = ElementTree.parse(path).getroot()
        assert [float(svg.get(side)) for side in ("width", "height")] == pytest.approx(
            [int(image[side]) for side in ("width", "height")], abs=1
        )


def test_each_drawing_is_there_in_both_themes_and_in_words(html, document):
    for card in document.select("section.atlas-plate"):
        address = html / "book" / card.select_one(".atlas-alone a")["href"]
        alone = BeautifulSoup(address.read_text(encoding="utf-8"), "html.parser")
        assert (address.parent / alone.a["href"].partition("#")[0]).resolve() == html / "book" / "atlas.html"
        assert alone.a["href"].partition("#")[2] == card["id"]
        figures = card.select(".atlas-drawings figure")
        assert [title.text for title in alone.select("h2")] == [figure.figcaption.text for figure in figures]
        for figure, title in zip(figures, alone.select("h2"), strict=True):
            light, dark = figure.select("img")
            assert [light["class"], dark["class"]] == [["only-light"], ["only-dark"]]
            picture = title.find_next_sibling("div").picture
            assert light["src"].endswith(f"/{picture.img['src']}")
            assert dark["src"].endswith(f"/{picture.source['srcset']}")
            words = ElementTree.parse(address.parent / picture.img["src"]).getroot()
            assert title.find_next_sibling("p").text == words.find("{http://www.w3.org/2000/svg}desc").text


def test_the_first_drawing_is_the_network_folded(html, cards):
    card, _ = cards["resnet20"]
    with models_on_meta():
        net = models.create("resnet20").eval()
    boxes = network_graph(net, (3, 32, 32), depth=1)
    svg = ElementTree.parse(html / "_images" / "atlas" / "resnet20-light.svg").getroot()
    groups = [group for group in svg.iter("{http://www.w3.org/2000/svg}g") if group.get("class") == "card"]
    assert len(groups) == len(boxes)
    assert card.select_one(".atlas-drawings figcaption").text == "resnet20"


def models_on_meta():
    import torch

    return torch.device("meta")


def test_blocks_of_one_kind_are_drawn_once():
    kinds = {
        name: {plates.form_of(block) for block in plates.outermost(build(name))} for name in ("resnet20", "resnet56")
    }
    assert kinds["resnet20"] == kinds["resnet56"]
    assert {plates.form_of(block) for block in plates.outermost(build("resnet50"))} != kinds["resnet20"]


def build(name):
    with models_on_meta():
        return models.create(name)


def test_results_are_kept_until_a_source_changes(tmp_path, monkeypatch):
    (plate,) = (plate for plate in PLATES if plate.slug == "lenet5")
    first = plates.contents([plate], tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".svg", ".svg"]
    monkeypatch.setattr(plates, "make", None)
    assert plates.contents([plate], tmp_path) == first
    sources = plates.sources(plates.home(plate))
    assert {path.name for path in sources} >= {"lenet.py", "registry.py", "layers.py"}
    changed = tmp_path / "lenet.py"
    changed.write_text("")
    monkeypatch.setattr(plates, "sources", lambda *files: {changed})
    with pytest.raises(TypeError):  # it would be made anew
        plates.contents([plate], tmp_path)


def test_drawings_begin_before_the_other_pages_are_read(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(plates, "begin", lambda wanted, folder: begun.append((len(wanted), folder)))
    env = SimpleNamespace(app=SimpleNamespace(outdir=tmp_path / "html"))
    docnames = ["book/api", "book/claims"]
    atlas.read_last(None, env, docnames)
    assert (docnames, begun) == (["book/api", "book/claims"], [])
    docnames = ["book/api", atlas.PAGE, "book/claims"]
    atlas.read_last(None, env, docnames)
    assert docnames == ["book/api", "book/claims", atlas.PAGE]
    assert begun == [(len(PLATES), tmp_path / "atlas")]


def test_what_has_begun_is_waited_for(tmp_path, monkeypatch):
    wanted = [plate for plate in PLATES if plate.slug == "lenet5"]
    monkeypatch.setattr(plates, "FEW", 0)
    plates.begin(wanted, tmp_path)
    monkeypatch.setattr(plates, "make", None)  # in this process
    assert plates.contents(wanted, tmp_path)["lenet5"].numbers.keys() == {"lenet5"}


def test_a_plate_is_made_once_where_several_processes_want_it(tmp_path, monkeypatch):
    made, make = [], plates.make

    def slowly(plate, folder):
        made.append(plate.slug)
        time.sleep(0.2)
        return make(plate, folder)

    monkeypatch.setattr(plates, "make", slowly)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(plates.keep, ["lenet5", "lenet5"], [tmp_path, tmp_path])) == [None, None]
    assert made == ["lenet5"]
    assert not list(tmp_path.glob("*.lock"))


def test_a_build_that_fails_leaves_no_process_behind(tmp_path):
    folder = tmp_path / "atlas"
    code = f"""if True:
        from pathlib import Path
        from cnnbook import plates
        folder = Path({str(folder)!r})
        plates.begin(plates.plates()[: plates.FEW + 1], folder)
        print(len(plates._running[folder]))
        raise SystemExit("this build fails")
    """
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert (int(done.stdout) > 0, done.stderr.strip()) == (True, "this build fails")
    assert not folder.exists(), "the run above ends with its last process, which has made its plates"


# ---- in the browser --------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(browser, html):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto((html / "book" / "atlas.html").as_uri())
    page.wait_for_load_state("networkidle")
    yield page
    context.close()


def shown(page):
    """Names of the networks that the page shows."""
    rows = "Array.from(document.querySelectorAll('.atlas-plate tbody tr')).filter(row => row.cells.length === 6)"
    return set(
        page.evaluate(f"{rows}.filter(row => row.checkVisibility()).map(row => row.querySelector('code').innerText)")
    )


@pytest.mark.browser
def test_filter_by_words(opened):
    assert shown(opened) == set(models.available())
    field = opened.get_by_label("Words")
    field.focus()
    opened.keyboard.type("squeeze resnet50")
    names = {"se-resnet50", "se-resnet50-v1.5"}
    assert shown(opened) == names
    said = opened.locator(".atlas-filter [role=status]")
    assert said.inner_text() == f"2 of {len(models.available())} networks, on 1 card."
    assert said.get_attribute("aria-live") == "polite"
    assert opened.locator(".atlas-family:visible").count() == 1


@pytest.mark.browser
def test_filter_by_family_year_and_size(opened):
    opened.get_by_label("Family").select_option("efficientnet")
    assert shown(opened) == set(models.available(family="efficientnet"))
    opened.get_by_label("Parameters").select_option("1-10")
    cards = map(models.card, models.available(family="efficientnet"))
    assert shown(opened) == {card.name for card in cards if 1e6 < card.parameters <= 1e7}
    opened.get_by_label("Year").select_option("2012")
    assert shown(opened) == set()
    assert opened.locator(".atlas-filter [role=status]").inner_text().startswith("0 of ")
    opened.get_by_role("button", name="Show all").click()
    opened.get_by_label("Year").select_option("2012")
    assert shown(opened) == set(models.available(year=2012))
    opened.get_by_role("button", name="Show all").click()
    opened.wait_for_function(
        f"document.querySelector('.atlas-filter [role=status]').innerText.startsWith('{len(models.available())}')"
    )
    assert shown(opened) == set(models.available())


@pytest.mark.browser
def test_an_address_leads_to_a_card_that_the_filter_hides(opened):
    opened.get_by_label("Family").select_option("vgg")
    opened.evaluate("location.hash = '#plate-resnet20'")
    opened.locator("#plate-resnet20").wait_for(state="visible")
    assert opened.get_by_label("Family").input_value() == ""


LOADED = "image => image.complete && image.naturalWidth > 0"
DRAWINGS = "Array.from(document.querySelectorAll('.atlas-drawings img'))"


@pytest.mark.browser
def test_drawings_load_when_they_come_into_view(opened):
    assert opened.evaluate(f"{DRAWINGS}.filter({LOADED}).length") < 20, "those at the top of the page"
    last = opened.locator(".atlas-plate").last
    assert not last.locator("img.only-light").first.evaluate(LOADED)
    last.scroll_into_view_if_needed()
    opened.wait_for_function(f"{DRAWINGS}.filter(image => image.className === 'only-light').slice(-2).some({LOADED})")


@pytest.mark.browser
def test_drawings_follow_the_theme(opened):
    first = opened.locator(".atlas-plate").first
    first.scroll_into_view_if_needed()
    assert first.locator("img.only-light").first.is_visible()
    opened.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert not first.locator("img.only-light").first.is_visible()
    assert first.locator("img.only-dark").first.is_visible()


@pytest.mark.browser
def test_without_scripts_every_card_is_shown(browser, html):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((html / "book" / "atlas.html").as_uri())
    assert page.locator(".atlas-plate:visible").count() == len(PLATES)
    assert not page.locator(".atlas-filter").is_visible()
    context.close()
