"""The comparison of runs in a browser: its layout at four widths, its player, its audio."""

import shutil
from pathlib import Path

import pytest

from tests import two_runs
from tests.browser import WIDTHS
from tests.test_compare import compare
from tests.test_report_page import open_report

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A comparison of three runs, moved to another folder."""
    folder = tmp_path_factory.mktemp("project")
    before, after = two_runs.make_runs(folder)
    third = Path(shutil.copytree(after, before.with_name("a_run_with_a_rather_long_name")))
    two_runs.change(third, "hpro", lambda scores: scores.assign(dnsmos=2.0))
    two_runs.write_settings(third, {"sft.leave_out": ["acted"], "base": "data/" + 9 * "long_"})
    runs = (str(before), str(after), str(third))
    compare(*runs, "--out", str(folder / "compared"), "--samples", "2")
    return Path(shutil.move(folder / "compared", folder / "moved")) / "index.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_page(chromium, page, width, scheme):
    opened = open_report(chromium, page, width, scheme)
    opened.check_layout(width)
    opened.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_axe_finds_no_fault(chromium, page, width, scheme):
    opened = open_report(chromium, page, width, scheme)
    opened.open_details()
    assert opened.axe_faults() == []
    opened.context.close()


def test_a_sentence_is_heard_by_both_runs_at_the_same_position(chromium, page):
    opened = open_report(chromium, page)
    tab = opened.page
    player, clock = tab.locator("#player"), tab.locator("#clock")
    assert player.get_attribute("data-system") == "hpro, after"
    tab.locator("#play").focus()
    tab.keyboard.press("l")
    assert clock.inner_text() == "0.50 of 2.00 s"
    tab.keyboard.press("k")
    tab.wait_for_function("parseFloat(document.getElementById('clock').textContent) > 0.55")
    tab.keyboard.press("1")  # while it plays
    assert player.get_attribute("data-system") == "hpro, before"
    assert tab.locator("#play").inner_text() == "Stop"
    assert "of 1.00 s" in clock.inner_text()
    tab.wait_for_function("document.getElementById('play').textContent === 'Play'")  # its end
    assert opened.faults == []
    opened.context.close()


def test_sentences_are_ordered_by_the_difference(chromium, page):
    opened = open_report(chromium, page)
    tab = opened.page
    listed = tab.locator("#sentences option")
    assert listed.count() == 4
    assert tab.locator("#by-system").input_value() == "hpro: after − before"
    for order in ("best", "worst"):
        tab.locator("#by-set").select_option("controlled")
        tab.locator("#by-order").select_option(order)
        tab.wait_for_function("!document.getElementById('play').disabled")
        assert listed.count() == 2
        shown = [text.split(" · ")[0] for text in listed.all_inner_texts()]
        values = [float(text.removeprefix("wVAD-CCC ")) for text in shown]
        assert values == sorted(values, reverse=order == "best")
        assert set(values) == {0.22, 0.3}
    assert opened.faults == []
    opened.context.close()


def test_audio_beside_the_page_is_found_after_the_move(chromium, page):
    """Of every sentence: those in the page, and those in the files beside it."""
    opened = open_report(chromium, page)
    tab = opened.page
    ids = tab.locator("#sentences option").evaluate_all("(all) => all.map((one) => one.value)")
    for utt_id in ids:
        tab.locator("#sentences").select_option(utt_id)
        tab.wait_for_function(
            "(id) => document.getElementById('about').textContent.includes(id)", arg=utt_id
        )
        tab.wait_for_function("!document.getElementById('play').disabled")
        assert not tab.locator("#problem").is_visible()
    beside = sorted(path.stem for path in (page.parent / "sentences").glob("*.js"))
    loaded = sorted({Path(url).stem for url in opened.requests if "/sentences/" in url})
    assert loaded == beside
    assert opened.faults == []
    opened.context.close()
