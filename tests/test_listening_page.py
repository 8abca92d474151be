"""The page of a listening test in a browser: a whole session by keyboard, its files, its layout."""

import shutil
from pathlib import Path

import pytest

from hpro_core.listening.analyse import analyse
from hpro_core.listening.answers import read_session
from hpro_core.listening.design import Design, read_design
from tests.browser import WIDTHS, Opened
from tests.listening import built, spoken_folders

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def test_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small listening test of two systems, with recordings."""
    folder = tmp_path_factory.mktemp("listening")
    return built(spoken_folders(folder / "audio", 5), folder / "test")


class Watched(Opened):
    """The page of a listening test, for one rater."""

    def __init__(self, browser, folder: Path, rater: int, **context) -> None:
        self.address = f"{(folder / 'page' / 'index.html').as_uri()}?rater={rater}"
        super().__init__(browser, self.address, accept_downloads=True, **context)

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)

    def heading(self) -> str:
        return self.page.locator("h2").inner_text()

    def listen(self) -> None:
        """Play all clips of a trial by keyboard, up to their ends."""
        for _ in range(self.page.locator("button", has_text="Play").count()):
            self.press("Space")
            self.page.wait_for_function("() => sounds.some((sound) => !sound.paused)")
            self.page.wait_for_function("() => sounds.every((sound) => sound.paused)")
        self.page.wait_for_selector("fieldset:not([disabled])")

    def train(self) -> None:
        self.press("Enter")  # the welcome
        self.press("Enter")  # the instructions
        for key in ("5", "1", "3"):
            self.listen()
            self.press(key)
            self.press("Enter")
        assert "2 tones" in self.page.locator("#status").inner_text()  # 3 was wrong
        self.press("2")
        self.press("Enter")

    def answer(self, n: int, design: Design, rater: int) -> None:
        """Answer the next n trials by keyboard: right in checks, else 4 or the second option."""
        for _ in range(n):
            if self.heading().startswith("Part "):
                self.press("Enter")
            done = self.page.evaluate("state.answers.length")
            part, clips = design.trials_of(rater)[done]
            expected = design.expected(part, clips)
            self.listen()
            keys = {None: "2", "a": "1", "b": "3"} if part == "preference" else {None: "4"}
            self.press(keys.get(expected, str(expected)))
            self.press("Enter")

    def save(self, key: str, folder: Path) -> Path:
        with self.page.expect_download() as download:
            self.press(key)
        path = folder / download.value.suggested_filename
        download.value.save_as(path)
        return path


def test_a_session_by_keyboard_with_a_reload_is_analysed(chromium, test_folder, tmp_path):
    design = read_design(test_folder / "design.json")
    n = len(design.trials_of(2))
    watched = Watched(chromium, test_folder, 2)
    watched.train()
    watched.answer(4, design, 2)
    watched.page.goto(watched.address)  # a reload
    watched.press("Enter")
    assert "4 of" in watched.page.locator("#status").inner_text()
    watched.answer(n - 4, design, 2)
    assert watched.heading() == "Thank you"

    paths = [watched.save(key, tmp_path) for key in "cj"]
    saved = [read_session(path, design) for path in paths]
    assert saved[0].answers == saved[1].answers
    assert len(saved[0].answers) == n
    (tmp_path / "out").mkdir()
    tables = analyse(design, paths, 0, tmp_path / "out")
    assert tables.raters["excluded"].tolist() == [""]
    assert set(tables.ratings["score"]) == {4}
    assert set(tables.choices["answer"]) == {"none"}

    assert watched.faults == []
    assert watched.is_offline()


def test_a_rating_before_the_end_of_the_clip_is_refused(chromium, test_folder):
    watched = Watched(chromium, test_folder, 1)
    watched.press("Enter")
    watched.press("Enter")
    watched.press("4")
    watched.press("Enter")
    assert watched.page.locator("#status").inner_text() == "Listen to the end first."
    assert watched.page.locator("input:checked[type=radio]").count() == 0


def test_a_missing_folder_of_audio_is_reported(chromium, test_folder, tmp_path):
    (tmp_path / "page").mkdir()
    shutil.copy(test_folder / "page" / "index.html", tmp_path / "page")
    watched = Watched(chromium, tmp_path, 1)
    for key in ("Enter", "Enter", "Space"):
        watched.press(key)
    watched.page.wait_for_function("() => notice.textContent.includes('The folder audio has to')")


def test_a_page_with_all_audio_inside_plays(chromium, test_folder, tmp_path):
    single = built(test_folder.parent / "audio", tmp_path / "single", "--single")
    assert [path.name for path in (single / "page").iterdir()] == ["index.html"]
    watched = Watched(chromium, single, 1)
    watched.train()
    assert watched.faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_screen_is_wider_than_the_window_or_has_an_accessibility_fault(
    chromium, test_folder, scheme
):
    design = read_design(test_folder / "design.json")
    watched = Watched(chromium, test_folder, 3, color_scheme=scheme)
    n_screens = 0

    def check() -> None:
        nonlocal n_screens
        n_screens += 1
        for width in WIDTHS:
            watched.page.set_viewport_size({"width": width, "height": 900})
            sizes = "[document.documentElement.scrollWidth, innerWidth]"
            wide, window = watched.page.evaluate(sizes)
            assert wide <= window, (watched.heading(), width)
        faults = watched.axe_faults()
        assert [name for name, impact in faults if impact in ("serious", "critical")] == []

    check()
    watched.press("Enter")
    check()
    watched.press("Enter")
    watched.page.goto(watched.address)
    watched.train()
    check()
    seen = set()
    for done, (part, _) in enumerate(design.trials_of(3)):
        if watched.heading().startswith("Part "):
            watched.press("Enter")
        if part not in seen:
            check()
            watched.listen()
            check()
            seen.add(part)
        watched.answer(1, design, 3)
        assert watched.page.evaluate("state.answers.length") == done + 1
    check()
    assert n_screens == 10
