"""The report in a browser: its layout at four widths, its player, and 2,000 sentences."""

import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from hpro_core.params import Report
from hpro_core.report import stage
from hpro_core.tables import SCORES, SYNTHESIS, UTTERANCES, WORD_VAD, read_table, write_table
from tests import test_report as made
from tests.browser import CLIPPED, OUTSIDE, WIDTHS, Opened
from tests.recorded import record

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = made.make_run(tmp_path_factory.mktemp("results") / "made_up")
    return stage.build(root, Report(samples=1), root / "params.yaml")


def open_report(browser, path: Path, width: int = 1280, scheme: str = "light") -> Opened:
    view = {"width": width, "height": 900}
    address = path.as_uri()
    return Opened(browser, address, "#takes input", viewport=view, color_scheme=scheme)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_page(chromium, report, width, scheme):
    opened = open_report(chromium, report, width, scheme)
    opened.check_layout(width)
    assert opened.seconds < 2
    opened.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_axe_finds_no_fault(chromium, report, width, scheme):
    opened = open_report(chromium, report, width, scheme)
    opened.open_details()
    assert opened.axe_faults() == []
    opened.context.close()


def test_the_theme_is_chosen_and_kept(chromium, report):
    opened = open_report(chromium, report, scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    assert opened.page.evaluate(paper) == "rgb(255, 255, 255)"
    button = opened.page.locator("#theme")
    button.click()
    assert button.inner_text() == "Theme: light"
    button.click()
    assert button.inner_text() == "Theme: dark"
    dark = opened.page.evaluate(paper)
    assert dark != "rgb(255, 255, 255)"
    opened.page.reload()
    assert opened.page.evaluate(paper) == dark
    opened.page.emulate_media(media="print")
    assert opened.page.evaluate(paper) == "rgb(255, 255, 255)"
    assert not opened.page.locator("nav").is_visible()
    opened.context.close()


def test_a_print_has_light_pictures_and_whole_tables(chromium, report):
    heads = "document.querySelector('[data-comparison] thead').getBoundingClientRect().height"
    picture = "document.getElementById('spectrum').toDataURL()"
    shown, printed = {}, {}
    for scheme in ("light", "dark"):
        opened = open_report(chromium, report, width=718, scheme=scheme)  # A4 with margins
        page = opened.page
        assert page.evaluate(heads) <= 1  # the rows are stacked
        shown[scheme] = page.evaluate(picture)
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        printed[scheme] = page.evaluate(picture)
        assert page.evaluate(heads) > 10
        assert page.evaluate("document.documentElement.scrollWidth") == 718
        assert page.evaluate(OUTSIDE) == []
        assert page.evaluate(CLIPPED) == []
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        page.emulate_media(media="screen")
        assert page.locator("#theme").inner_text() == "Theme: system"
        assert opened.faults == []
        opened.context.close()
    assert shown["light"] != shown["dark"]
    assert printed["light"] == printed["dark"]


def test_a_key_switches_the_system_at_the_same_position(chromium, report):
    """By keyboard alone: a sentence is played, moved in, and heard by another system."""
    opened = open_report(chromium, report)
    page = opened.page
    player, clock = page.locator("#player"), page.locator("#clock")
    assert player.get_attribute("data-system") == "hpro"
    assert "of 1.00 s" in clock.inner_text()
    page.locator("#play").focus()
    page.keyboard.press("l")
    assert clock.inner_text() == "0.50 of 1.00 s"
    views = ("wave", "spectrum", "contour")
    before = [page.locator(f"#{view}").evaluate("(c) => c.toDataURL()") for view in views]
    legend = page.locator("#shown-system").inner_text()
    page.keyboard.press("1")
    assert player.get_attribute("data-system") == "recordings"
    assert clock.inner_text() == "0.50 of 1.00 s"
    after = [page.locator(f"#{view}").evaluate("(c) => c.toDataURL()") for view in views]
    assert all(one != other for one, other in zip(before, after, strict=True))
    assert page.locator("#shown-system").inner_text() == "recordings" != legend
    page.keyboard.press("k")
    assert page.locator("#play").inner_text() == "Stop"
    page.wait_for_function("parseFloat(document.getElementById('clock').textContent) > 0.55")
    page.keyboard.press("3")  # while it plays
    assert player.get_attribute("data-system") == "sft"
    assert page.locator("#play").inner_text() == "Stop"
    page.wait_for_function("document.getElementById('play').textContent === 'Play'")  # its end
    assert clock.inner_text() == "0.00 of 1.00 s"
    assert opened.faults == []
    opened.context.close()


def test_the_next_sentence_is_loaded_from_beside_the_page(chromium, report):
    opened = open_report(chromium, report)
    page = opened.page
    first = page.locator("#about").inner_text()
    page.locator("#play").focus()
    page.keyboard.press("n")
    page.wait_for_function(
        "(first) => document.getElementById('about').textContent !== first", arg=first
    )
    page.wait_for_function("!document.getElementById('play').disabled")
    loaded = [Path(url).name for url in opened.requests if "/sentences/" in url]
    assert len(loaded) == 1
    assert loaded[0].removesuffix(".js") in page.locator("#about").inner_text()
    assert page.locator("#takes input").count() == len(made.ALL_SYSTEMS)
    assert opened.faults == []
    opened.context.close()


def test_a_missing_file_of_a_sentence_is_named(chromium, report, tmp_path):
    alone = Path(shutil.copy(report, tmp_path / "index.html"))
    opened = open_report(chromium, alone)
    opened.page.locator("#play").focus()
    opened.page.keyboard.press("n")
    problem = opened.page.locator("#problem")
    problem.wait_for(state="visible")
    assert "is missing: copy the folder with the page" in problem.inner_text()
    assert not opened.page.locator("#play").is_visible()
    opened.page.keyboard.press("p")
    opened.page.locator("#play").wait_for(state="visible")
    assert not problem.is_visible()
    opened.context.close()


def test_sentences_are_ordered_by_a_metric(chromium, report):
    opened = open_report(chromium, report)
    page = opened.page
    listed = page.locator("#sentences option")
    assert listed.count() == 6
    page.locator("#by-set").select_option("acted")
    assert listed.count() == 3
    page.locator("#by-metric").select_option("f0_corr")
    for order in ("best", "worst", "median"):
        page.locator("#by-order").select_option(order)
        assert listed.count() == 3
    assert "F0 0.50" in listed.first.inner_text()
    assert opened.faults == []
    opened.context.close()


def test_two_thousand_sentences_open_in_three_seconds(chromium, tmp_path):
    root = made.make_run(tmp_path / "made_up")
    enlarge(root, 2000)
    path = stage.build(root, Report(samples=6), root / "params.yaml")
    assert path.stat().st_size < 5e6
    opened = open_report(chromium, path)
    assert opened.seconds < 3
    assert opened.page.locator("#sentences option").count() == 2000
    start = time.monotonic()
    opened.page.locator("#by-order").select_option("worst")
    opened.page.wait_for_function("!document.getElementById('play').disabled")
    assert time.monotonic() - start < 3
    assert opened.faults == []
    opened.context.close()


def enlarge(root: Path, n: int) -> None:
    """Give every system n sentences of `controlled`, all with the audio of one."""
    kept = "controlled_4"
    ids = [f"controlled_{1000 + i}" for i in range(n)]

    def repeated(path: Path, schema) -> None:
        table = read_table(path, schema)
        row = table[table["utt_id"] == kept]
        more = pd.concat([row] * n, ignore_index=True)
        more["utt_id"] = np.repeat(ids, len(row))
        write_table(more, path, schema)

    utterances = root / "corpus/utterances.parquet"
    table = read_table(utterances, UTTERANCES)
    row = table[table["utt_id"] == kept]
    more = pd.concat([row] * n, ignore_index=True).assign(utt_id=ids)
    write_table(pd.concat([table, more]), utterances, UTTERANCES)
    for system in made.ALL_SYSTEMS:
        folder = root / "eval" / system / "seed0"
        soundfile.write(folder / f"audio/{kept}.wav", np.zeros(1600), 16000)
        for name, schema in (("synthesis", SYNTHESIS), ("scores", SCORES), ("word_vad", WORD_VAD)):
            if (folder / f"{name}.parquet").is_file():
                repeated(folder / f"{name}.parquet", schema)
        record(root, folder / "scores.parquet", system, 0)
