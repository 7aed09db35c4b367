"""The page at `/`, in a headless Chromium; without one these tests are skipped."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import charlm
from charlm import LanguageModel, TextClassifier
from charlm.server.page import POLICY, playground
from charlm.tasks.trained import TrainedModel
from conftest import Trained
from tests.serving import SMALL, Running, running, wait_for

WITHOUT = shutil.which("chromedriver") is None
needs_browser = pytest.mark.skipif(WITHOUT, reason="there is no chromedriver")


@pytest.fixture(scope="module")
def document(trained: Trained) -> LanguageModel:
    model: LanguageModel = trained(**SMALL)
    return model


@pytest.fixture(scope="module")
def server(
    document: LanguageModel, trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("labels")
    corpus = folder / "labels.tsv"
    corpus.write_text("good day\tgood\nbad day\tbad\n" * 20, encoding="utf-8")
    charlm.train(corpus, task="classify", steps=10, hidden=8, out=folder / "run", quiet=True)
    labels = charlm.load(folder / "run", kind=TextClassifier)
    models: dict[str, TrainedModel] = {"text": document, "labels": labels}
    with running(models) as server:
        yield server


class Page:
    """The page in a browser."""

    def __init__(self, driver: Any, port: int) -> None:
        self.driver = driver
        driver.get(f"http://127.0.0.1:{port}/")
        wait_for(lambda: self.all("#model option"))

    def all(self, selector: str) -> list[Any]:
        found: list[Any] = self.driver.find_elements("css selector", selector)
        return found

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return str(self.driver.execute_script(
            "return document.querySelector(arguments[0]).textContent", selector
        ))  # fmt: skip

    def put(self, selector: str, text: str) -> None:
        element = self.one(selector)
        element.clear()
        element.send_keys(text)

    def tab(self, name: str) -> None:
        self.one(f"[data-panel={name}]").click()


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1000,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver: Any = webdriver.Chrome(options=options, service=service)
    yield driver
    entries = [entry for entry in driver.get_log("browser") if entry["source"] != "network"]
    faults = [entry for entry in entries if entry["level"] == "SEVERE"]
    driver.quit()
    assert not faults


@pytest.fixture
def page(driver: Any, server: Running) -> Page:
    return Page(driver, server.port)


def write(page: Page, prompt: str, tokens: int) -> None:
    page.put("#write [name=prompt]", prompt)
    page.put("#write [name=max_tokens]", str(tokens))
    page.put("#write [name=seed]", "5")
    page.one("#write .main").click()
    wait_for(lambda: len(page.all("#written b")) == tokens and is_idle(page))


def is_idle(page: Page) -> bool:
    return bool(page.one("#write .main").is_enabled())


@needs_browser
def test_a_text_is_written_and_branched(page: Page, document: LanguageModel) -> None:
    write(page, "the c", 40)
    options: dict[str, Any] = {"temperature": 0.8, "seed": 5}
    expected = "the c" + "".join(document.stream("the c", length=40, **options))
    assert page.text("#written") == expected
    tokens = page.all("#written b")
    fields = tokens[10].get_dom_attribute("data-t").split("\t")
    logprob = document.score(expected, eos=False).token_scores[15].logprob
    assert fields[0] == expected[15].replace(" ", "▁") or fields[0] == expected[15]
    assert float(fields[1]) == pytest.approx(-logprob / math.log(2), abs=1e-3)
    # The pointer shows the likeliest tokens, and a click lets one of them be chosen.
    tokens[10].click()
    choices = page.all("#menu button")
    assert len(choices) == 5
    chosen = next(c for c in choices if c.get_dom_attribute("aria-selected") == "false")
    name = chosen.text.split("\n")[0].replace("␣", " ").replace("¶", "\n")
    chosen.click()
    wait_for(lambda: len(page.all("#written b")) == 51 and is_idle(page))
    assert page.text("#written").startswith(expected[:15] + name)
    assert not page.all("#menu:not([hidden])")
    page.one("[data-do=undo]").click()
    assert page.text("#written") == expected
    # It goes on from the whole text.
    page.one("#write .main").click()
    wait_for(lambda: len(page.all("#written b")) == 80 and is_idle(page))
    assert page.text("#written").startswith(expected)


@needs_browser
def test_writing_is_stopped_and_the_keyboard_suffices(page: Page) -> None:
    from selenium.webdriver.common.keys import Keys

    page.put("#write [name=max_tokens]", "100000")
    field = page.one("#write [name=prompt]")
    field.send_keys("the")
    field.send_keys(Keys.CONTROL, Keys.ENTER)
    wait_for(lambda: len(page.all("#written b")) > 5)
    page.one("[data-do=stop]").click()
    wait_for(lambda: is_idle(page))
    count = len(page.all("#written b"))
    assert 5 < count < 100_000
    assert not page.one("#problem").is_displayed()
    first = page.one("#written b")
    assert first.get_dom_attribute("tabindex") == "0"
    first.send_keys(Keys.ARROW_RIGHT)
    active = page.driver.switch_to.active_element
    assert active == page.all("#written b")[1]
    active.send_keys(Keys.ENTER)
    assert page.driver.switch_to.active_element.tag_name == "button"
    page.driver.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert page.driver.switch_to.active_element == page.all("#written b")[1]
    page.one("[data-panel=write]").send_keys(Keys.ARROW_RIGHT)
    assert page.one("#score").is_displayed() and not page.one("#write").is_displayed()


@needs_browser
def test_scores_comparisons_and_fillers(page: Page, document: LanguageModel) -> None:
    page.tab("score")
    page.put("#score textarea", "the cat sat\na bird <b>sang</b>")
    page.one("#score .main").click()
    wait_for(lambda: len(page.all("#score .scored")) == 2)
    assert page.text("#score .scored:nth-of-type(2) .text") == "a bird <b>sang</b>¶"
    bits = [
        float(b.get_dom_attribute("data-t").split("\t")[1]) for b in page.all("#score b[data-t]")
    ]
    scores = document.score(["the cat sat", "a bird <b>sang</b>"])
    assert sum(bits) == pytest.approx(sum(score.bits for score in scores), abs=0.05)
    page.tab("compare")
    page.put("#compare [name=first]", "the cat sat")
    page.put("#compare [name=second]", "the cat xat")
    page.one("#compare .main").click()
    wait_for(lambda: page.all("#compare table"))
    comparison = charlm.compare(document, ["the cat sat", "the cat xat"])[0]
    assert comparison.ratio in page.text("#compare .answer")
    page.tab("fill")
    page.put("#fill [name=text]", "the ___ sat")
    page.one("#fill .main").click()
    wait_for(lambda: len(page.all("#fill tr")) == 8)
    (fillers,) = document.fill("the ___ sat", k=8)
    assert [b.text for b in page.all("#fill td button")] == [filler.text for filler in fillers]
    page.one("#fill td button").click()
    assert page.one("#fill [name=text]").get_property("value") == f"the {fillers[0].text} sat"


@needs_browser
def test_units_are_shown(page: Page) -> None:
    page.tab("units")
    page.put("#units textarea", "the cat sat on the mat\na bird sang")
    page.one("#units .main").click()
    wait_for(lambda: page.all("#units iframe"))
    page.driver.switch_to.frame(page.one("#units iframe"))
    wait_for(lambda: len(page.all("#text0 span")) == 33)
    assert "too short to find units in" in page.text("body")
    page.driver.switch_to.default_content()


@needs_browser
def test_the_panels_are_those_of_the_task(page: Page) -> None:
    from selenium.webdriver.support.ui import Select

    Select(page.one("#model")).select_by_visible_text("labels")
    shown = [tab.get_dom_attribute("data-panel") for tab in page.all("[role=tab]:not([hidden])")]
    assert shown[0] == "predict" and "write" not in shown
    page.put("#predict textarea", "good day")
    page.put("#predict [name=k]", "2")
    page.one("#predict .main").click()
    wait_for(lambda: len(page.all("#predict tr")) == 2)
    assert "good" in page.text("#predict .answer")


@needs_browser
def test_an_error_is_shown(page: Page) -> None:
    page.put("#write [name=prompt]", "the")
    page.put("#write [name=max_tokens]", "90000000")
    page.one("#write .main").click()
    wait_for(lambda: page.one("#problem").is_displayed())
    assert "this server allows 200,000" in page.text("#problem")


@needs_browser
def test_a_key_is_asked_for(driver: Any, document: LanguageModel) -> None:
    with running({"m": document}, api_key="secret") as server:
        driver.get(f"http://127.0.0.1:{server.port}/")
        wait_for(lambda: driver.find_element("css selector", "#key").is_displayed())
        driver.find_element("css selector", "#key").send_keys("secret\n")
        wait_for(lambda: bool(driver.find_elements("css selector", "#model option")))
    driver.get_log("browser")  # the answer 401 is in it


def test_the_page_needs_nothing_else(server: Running) -> None:
    answer = server.http.get("/")
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.text == playground()
    assert not re.search(r"""(src|href)=(?!"data:)|url\(|@import|https?:""", answer.text)
    ids: list[str] = []

    class Ids(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            ids.extend(value or "" for name, value in attrs if name == "id")

    Ids().feed(answer.text)
    assert len(ids) == len(set(ids))
    script = (Path(charlm.__file__).parent / "server/playground.js").read_text(encoding="utf-8")
    for name in re.findall(r'\$\("#([a-z-]+)"\)', script):
        assert name in [*ids, "about"]  # made by the script of sentences
