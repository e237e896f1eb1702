"""The report in a browser: sliders by mouse and by keyboard, boxes, light and dark; no error, no request.

SCRATCHGAN_SCREENSHOTS=FOLDER keeps what was seen.
"""
from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scratchgan import cli
from tests import browser as browsers
from tests.browser import Browser

pytestmark = pytest.mark.skipif(not (browsers.CHROMIUM and browsers.DRIVER),
                                reason=f"needs Chromium and its driver: {browsers.INSTALL}")

RING = ("train gan --data ring --batch-size 64 --steps 40 --sample-every 20 --log-every 4 "
        "--set g_widths=32,32 --set d_widths=32,32").split()
DIGITS = ("train dcgan --data digits --size 8 --batch-size 16 --steps 10 --sample-every 5 --log-every 2 "
          "--lr 0.02 --set g_width=4 --set d_width=4").split()
STEPS = {"ring": [0, 1, 2, 5, 10, 20, 40], "digits": [0, 1, 2, 5, 10]}
LEFT, RIGHT, HOME = "\ue012", "\ue014", "\ue011"        # the protocol's code points of keys
SLIDER = "input[type=range]"


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    for name, command in (("ring", RING), ("digits", DIGITS)):
        assert cli.main([*command, "--out", str(folder / name)]) == 0
        assert cli.main(["report", str(folder / name), "--out", str(folder / f"{name}.html")]) == 0
    assert cli.main(["compare", str(folder / "ring"), str(folder / "digits"), "--out",
                     str(folder / "compare.html")]) == 0
    return folder


@pytest.fixture(scope="module")
def browser():
    with Browser(1200, 900) as window:
        yield window


def look(browser: Browser, name: str) -> np.ndarray:
    """A screenshot as an array; kept where SCRATCHGAN_SCREENSHOTS says."""
    folder = Path(os.environ.get("SCRATCHGAN_SCREENSHOTS", browser.profile.name))
    folder.mkdir(parents=True, exist_ok=True)
    browser.screenshot(folder / f"{name}.png")
    return np.asarray(Image.open(io.BytesIO((folder / f"{name}.png").read_bytes())).convert("RGB"), int)


def shown(browser: Browser) -> list[int]:
    """The steps of the frames that can be seen."""
    return browser.run("return [...document.querySelectorAll('[data-step]')].filter(f => f.checkVisibility())"
                       ".map(f => Number(f.dataset.step))")


def state(browser: Browser) -> tuple[str, str]:
    """What the slider tells: the text beside it and the one for screen readers."""
    return tuple(browser.run("return [document.querySelector('output').value, "
                             f"document.querySelector('{SLIDER}').getAttribute('aria-valuetext')]"))


# The colour of the page, then of each text on it.
COLOURS = """
const colour = (element, of) => getComputedStyle(element)[of].match(/\\d+/g).slice(0, 3).map(Number)
return [colour(document.body, "backgroundColor"),
        ...[...document.querySelectorAll("p, li, h1, h2, a, td, th, figcaption, svg text, output, dt")]
           .map(e => colour(e, e.localName === "text" ? "fill" : "color"))]"""


def luminance(colour: list[int]) -> float:
    """Relative luminance of an sRGB colour, as the W3C's guidelines define it for the contrast of text."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def opened(browser: Browser, path: Path) -> None:
    browser.requests(), browser.log()
    browser.open(path)


@pytest.mark.parametrize("name", ["ring", "digits"])
def test_the_slider_moves_through_training(browser, reports, name):
    opened(browser, reports / f"{name}.html")
    steps = STEPS[name]
    assert shown(browser) == [steps[-1]] and state(browser) == (str(steps[-1]), f"step {steps[-1]}")
    browser.click(SLIDER, 0.99)
    last = look(browser, f"{name}-last")
    browser.click(SLIDER, 0.01)
    first = look(browser, f"{name}-first")
    assert shown(browser) == [0] and state(browser) == ("0", "step 0")
    assert (abs(last - first).max(axis=2) > 30).mean() > 0.01, "the picture did not change"
    browser.click(SLIDER, 0.5)
    assert shown(browser) == [steps[len(steps) // 2]]
    browser.type(SLIDER, HOME)
    browser.type(SLIDER, RIGHT)
    assert shown(browser) == [steps[1]]
    browser.type(SLIDER, RIGHT + RIGHT + LEFT)
    assert shown(browser) == [steps[2]] and state(browser)[1] == f"step {steps[2]}"


@pytest.mark.parametrize("name", ["ring", "digits", "compare"])
def test_no_error_and_no_request_but_for_the_file(browser, reports, name):
    opened(browser, reports / f"{name}.html")
    browser.run("window.scrollTo(0, document.body.scrollHeight)")
    assert browser.log() == []
    outside = [address for address in browser.requests() if not address.startswith("data:")]
    assert outside == [(reports / f"{name}.html").resolve().as_uri()]
    broken = "return [...document.images].filter(i => !i.complete || i.naturalWidth === 0).length"
    assert browser.run(broken) == 0


def test_the_page_may_load_nothing_even_if_it_tried(browser, reports):
    opened(browser, reports / "ring.html")
    browser.run("const i = new Image(); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i)")
    browser.run("return 0")
    assert any("Content Security Policy" in line for line in browser.log())


def test_layers_of_the_plane_can_be_hidden(browser, reports):
    opened(browser, reports / "ring.html")
    visible = ("return [...document.querySelectorAll('#samples ' + arguments[0])]"
               ".some(p => p.checkVisibility())")
    for layer in ("data", "samples", "level", "gradient"):
        assert browser.run(visible, "." + layer)
        browser.click(f"input[value={layer}]")
        assert not browser.run(visible, "." + layer)
        browser.type(f"input[value={layer}]", " ")
        assert browser.run(visible, "." + layer)


def test_light_and_dark_can_be_read(browser, reports):
    for scheme, dark in (("light", False), ("dark", True)):
        browser.devtools("Emulation.setEmulatedMedia",
                         features=[{"name": "prefers-color-scheme", "value": scheme}])
        for name in ("ring", "digits", "compare"):
            opened(browser, reports / f"{name}.html")
            seen = look(browser, f"{name}-{scheme}")
            assert (np.median(seen) < 60) == dark
            page, *texts = (luminance(colour) for colour in browser.run(COLOURS))
            for text in texts:
                assert (max(page, text) + 0.05) / (min(page, text) + 0.05) >= 4.5
    browser.devtools("Emulation.setEmulatedMedia", features=[])


def test_a_narrow_window_needs_no_scrolling_sideways(browser, reports):
    narrow = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.devtools("Emulation.setDeviceMetricsOverride", **narrow)
    for name in ("ring", "digits"):
        opened(browser, reports / f"{name}.html")
        look(browser, f"{name}-narrow")
        assert browser.run("return document.documentElement.scrollWidth") <= 390
    browser.devtools("Emulation.clearDeviceMetricsOverride")
