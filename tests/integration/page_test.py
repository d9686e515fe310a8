"""The built-in page in headless Chromium, against a real server with the demo model.

With SLUICE_SCREENSHOTS=FOLDER in the environment, page-light.png and page-dark.png are written there.
"""

import json
import os
import pathlib
import signal
import threading
import unittest

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import http2
import page_client
import sluice_server
from browser import Browser
from sluice_server import generation_pb2

LAYERS, EXPERTS = 6, 8
# Where the map's cells begin, in pixels of the page: see heatmap.js.
LEFT, TOP = 40, 22

# Colours of the middles of all cells' upper halves, [layer][expert][r, g, b].
READ_COLOURS = """
const map = document.getElementById('map');
const width = (map.clientWidth - arguments[0] - 1) / arguments[2];
const height = (map.clientHeight - arguments[1] - 1) / arguments[3];
const ratio = map.width / map.clientWidth;
const context = map.getContext('2d');
return Array.from({length: arguments[3]}, (_, row) => Array.from({length: arguments[2]}, (_, expert) => {
  const x = arguments[0] + expert * width + 4, y = arguments[1] + row * height + 4;
  return [...context.getImageData(x * ratio, y * ratio, 1, 1).data].slice(0, 3);
}));
"""


# willHappen: timers that are set, and answers that are waited for.
COUNT_WHAT_WILL_HAPPEN = """
window.willHappen = new Set();
const {setTimeout: set, clearTimeout: clear, fetch: get} = window;
window.setTimeout = (call, ms) => {
  const id = set(() => { call(); willHappen.delete(id); }, ms);
  willHappen.add(id);
  return id;
};
window.clearTimeout = (id) => { willHappen.delete(id); clear(id); };
window.fetch = (...of) => {
  const answer = get(...of);
  willHappen.add(answer);
  const forget = () => set(() => willHappen.delete(answer));
  answer.then((response) => response.clone().text()).then(forget, forget);
  return answer;
};
"""

# Stands in for a server with a model of arguments LAYERS x EXPERTS: in layer l, expert e has a token in a second for
# each e + 1, and as many more for each l. After `restarts` it is another one, which has counted for fewer seconds though it
# is asked later; while `isLoading` it has no model. It gives `answersLeft` answers.
PRETEND = """
const start = performance.now();
window.restarts = 0;
window.isLoading = false;
window.answersLeft = Infinity;
window.fetch = async () => {
  if (answersLeft-- <= 0) throw new TypeError('gone');
  const elapsed = (performance.now() - start) / 1000;
  const seconds = (restarts ? 500 : 1000) + elapsed;
  const histogram = {bounds_seconds: [0.1, 1], counts: [9, 1, 0]};
  const layers = Array.from({length: LAYERS}, (_, layer) => ({
    layer, imbalance: 2 - 1 / EXPERTS, active_experts: EXPERTS, routing_entropy: 0.9, load_balance_loss: 1.25, seconds,
    tokens: Array.from({length: EXPERTS}, (_, expert) => Math.floor(seconds) * (layer + 1) * (expert + 1)),
    weights: Array(EXPERTS).fill(1),
  }));
  const answer = {
    version: '9.9', state: 'ready', start_time_seconds: restarts, uptime_seconds: Math.floor(1000 + elapsed),
    model: {name: '<b>bold</b> \u202e a name of no end '.repeat(9), family: 'f', weights: 'int4'},
    engine: {requests_running: 64, requests_waiting: 256, prompt_tokens: 123456789 * Math.floor(seconds),
             prompt_tokens_cached: 5, generated_tokens: 98765 * Math.floor(seconds), kv_cache_usage_ratio: 1,
             kv_blocks_used: 123456, kv_blocks_free: 0, kv_blocks_cached: 1234567,
             time_to_first_token: histogram, inter_token_latency: histogram},
    experts: {num_experts: EXPERTS, experts_per_token: 8, steps: 1e9, window_steps: 128, layers},
  };
  if (isLoading) Object.assign(answer, {state: 'loading', model: null, engine: null, experts: null});
  return new Response(JSON.stringify(answer));
};
"""


# What the page shows of counts: all of one answer, as no script runs in between.
READ_COUNTS = """
const text = (id) => document.getElementById(id).textContent;
const line = (id) => document.getElementById(id).firstElementChild.getAttribute('points');
const map = document.getElementById('map');
return {
  state: text('state-text'), total: text('cell-total'),
  rates: ['generated-rate', 'prompt-rate', 'cell-rate', 'cell-share'].map(text),
  lines: ['generated-line', 'prompt-line'].map(line),
  isBlank: map.getContext('2d').getImageData(0, 0, map.width, map.height).data.every((byte) => byte === 0),
};
"""


def luminance(colour):
    return sum(part * value for part, value in zip((0.2126, 0.7152, 0.0722), colour))


def golden_cases():
    with open(sluice_server.SOURCE_DIR / "models/demo/golden.json", encoding="utf-8") as file:
        return json.load(file)["cases"]


def request_of(case):
    request = generation_pb2.GenerateRequest(bypass_prefix_cache=True)
    for message in case["messages"]:
        request.chat.messages.add(**message)
    request.sampling.temperature = 0
    return request


class PageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()
        cls.driver = cls.browser.driver

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()

    def setUp(self):
        # What the console said about earlier tests, such as that they read colours.
        self.browser.console().clear()

    def start(self, *flags):
        server = sluice_server.SluiceServer("--weights=f32", "--model_name=demo", *flags)
        self.addCleanup(lambda: server.is_running() and server.stop())
        return server

    def open(self, server, script=""):
        """Opens the page of `server`; `script` runs before its own ones."""
        self.browser.prefer("light")
        identifier = self.browser.run_in_new_pages(script)
        try:
            self.driver.get(f"http://{server.metrics_address}/")
        finally:
            self.browser.forget(identifier)
        self.browser.await_true(lambda: self.text("state-text") == "ready")
        self.addCleanup(lambda: self.driver.get("about:blank"))

    def element(self, name):
        return self.driver.find_element(By.ID, name)

    def text(self, name):
        return self.element(name).text

    def answer(self, server, case):
        """The answer of the server to a golden case."""
        events = list(server.generation.Generate(request_of(case)))
        self.assertEqual("".join(event.delta.text for event in events), case["completion"])

    def click_mode(self, mode):
        self.driver.find_element(By.CSS_SELECTOR, f"input[value={mode}]").click()

    def mode(self):
        return self.driver.find_element(By.CSS_SELECTOR, "input[name=mode]:checked").get_attribute("value")

    def press(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def cell(self):
        """(layer, expert) that is described."""
        return int(self.text("cell-layer")), int(self.text("cell-expert"))

    def totals_by_keys(self):
        """{(layer, expert): tokens}, from the readout while the arrow keys visit every cell in a winding way."""
        self.driver.execute_script("document.getElementById('map').focus()")
        self.press(Keys.PAGE_UP, Keys.HOME)
        found = {}
        for layer in range(LAYERS):
            forth = Keys.ARROW_RIGHT if layer % 2 == 0 else Keys.ARROW_LEFT
            for step in range(EXPERTS):
                found[self.cell()] = int(self.text("cell-total").replace(",", ""))
                self.press(forth if step < EXPERTS - 1 else Keys.ARROW_DOWN)
        return found

    def colours(self):
        return self.driver.execute_script(READ_COLOURS, LEFT, TOP, EXPERTS, LAYERS)

    def test_the_map_shows_the_counts_of_a_known_request(self):
        server = self.start()
        self.open(server)
        case = golden_cases()[0]
        self.answer(server, case)
        expected = {
            (layer, expert): tokens
            for layer, row in enumerate(case["expert_tokens_fed"])
            for expert, tokens in enumerate(row)
        }
        self.assertEqual(server.expert_tokens(), expected)
        self.click_mode("total")
        self.assertEqual(self.mode(), "total")
        self.element("map").click()
        hottest = max(expected.values())
        self.browser.await_true(lambda: self.totals_by_keys() == expected)
        # Colours: the more tokens, the darker; none is another colour than few.
        ordered = sorted((tokens, luminance(self.colours()[at[0]][at[1]])) for at, tokens in expected.items())
        for (fewer, brighter), (more, darker) in zip(ordered, ordered[1:]):
            if fewer == 0 or fewer == more:
                continue
            self.assertGreaterEqual(brighter, darker, ordered)
        self.assertGreater(ordered[0][1] - ordered[-1][1], 60, f"up to {hottest} tokens: {ordered}")
        self.assertEqual(self.text("legend-high").replace(",", ""), str(self.rounded_up(hottest)))

    def rounded_up(self, value):
        steps = (factor * 10**power // 10 for power in range(1, 12) for factor in (10, 15, 20, 30, 40, 50, 60, 80))
        return next(step for step in steps if step >= value)

    def test_modes_by_mouse_and_by_keys(self):
        server = self.start()
        self.open(server)
        self.answer(server, golden_cases()[0])
        self.assertEqual(self.mode(), "rate")
        notes = {}
        for mode in ("share", "total", "rate"):
            self.click_mode(mode)
            self.assertEqual(self.mode(), mode)
            notes[mode] = self.text("mode-note")
        self.assertEqual(len(set(notes.values())), 3)
        self.driver.find_element(By.CSS_SELECTOR, "input[value=rate]").send_keys(Keys.ARROW_RIGHT)
        self.assertEqual((self.mode(), self.text("mode-note")), ("share", notes["share"]))
        self.press(Keys.ARROW_RIGHT)
        self.assertEqual((self.mode(), self.text("mode-note")), ("total", notes["total"]))
        # From the modes the tab key leads to the map, whose cursor then has a place.
        self.press(Keys.TAB)
        self.assertEqual(self.driver.switch_to.active_element.get_attribute("id"), "map")
        self.assertEqual(self.cell(), (0, 0))
        self.press(Keys.END, Keys.PAGE_DOWN)
        self.assertEqual(self.cell(), (LAYERS - 1, EXPERTS - 1))
        self.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
        self.assertEqual(self.cell(), (LAYERS - 1, EXPERTS - 1))
        self.assertIn(f"layer {LAYERS - 1}, expert {EXPERTS - 1}: ", self.text_content("announcement"))
        # The layer that the cursor is in is marked in the table, too.
        marked = self.driver.find_elements(By.CSS_SELECTOR, "#balance tr.marked th")
        self.assertEqual([cell.text for cell in marked], [str(LAYERS - 1)])

    def text_content(self, name):
        return self.element(name).get_attribute("textContent")

    def test_shares_and_rates_are_those_of_the_requests(self):
        server = self.start()
        self.open(server)
        # What came before the page was opened is no part of its shares.
        self.browser.await_true(lambda: self.text("generated-rate") != "–")
        case = golden_cases()[0]
        self.answer(server, case)
        self.click_mode("share")
        fed = case["expert_tokens_fed"]
        hottest = max(range(EXPERTS), key=lambda expert: fed[0][expert])
        self.element("map").click()
        self.press(Keys.PAGE_UP, Keys.HOME, *[Keys.ARROW_RIGHT] * hottest)
        self.assertEqual(self.cell(), (0, hottest))
        share = f"{100 * fed[0][hottest] / sum(fed[0]):.1f} %"
        self.browser.await_true(lambda: self.text("cell-share") == share)
        self.browser.await_true(lambda: self.text("first-p50") != "–" and self.text("token-p99") != "–")
        self.assertRegex(self.text("first-p50"), r"^[\d.]+ [mµ]?s$")
        self.assertEqual((self.text("running"), self.text("waiting")), ("0", "0"))
        rows = self.driver.find_elements(By.CSS_SELECTOR, "#balance tr")
        layers = page_client.experts(server)["layers"]
        self.assertEqual(len(rows), LAYERS)
        for row, layer in zip(rows, layers):
            figures = [float(cell.text) for cell in row.find_elements(By.CSS_SELECTOR, "th, td span")]
            self.assertEqual(figures[0], layer["layer"])
            # Written with two, three, one and three digits after the point.
            for figure, name, digits in zip(
                figures[1:],
                ("imbalance", "routing_entropy", "active_experts", "load_balance_loss"),
                (2, 3, 1, 3),
            ):
                self.assertAlmostEqual(figure, layer[name], delta=0.500001 * 10**-digits)

    def test_the_state_is_shown_to_the_end(self):
        server = self.start()
        self.open(server)
        with http2.Connection(server.grpc_address) as connection:
            connection.start_call(b"/sluice.v1.Generation/Generate", sluice_server.unread_request().SerializeToString())
            connection.await_frame(http2.DATA)
            server.signal(signal.SIGTERM)
            self.browser.await_true(lambda: self.text("state-text") == "draining")
        self.assertEqual(server.wait(), 0)
        self.browser.await_true(lambda: self.text("state-text") == "unreachable")
        self.assertIn("stale", self.element("figures").get_attribute("class"))

    def await_counts(self, condition):
        found = {}

        def look():
            found.update(self.driver.execute_script(READ_COUNTS))
            return condition(found)

        self.browser.await_true(look)
        return found

    def test_another_servers_counts_are_not_compared(self):
        server = self.start()
        self.open(server, f"const LAYERS = 2, EXPERTS = 8; {PRETEND}")
        self.element("map").click()
        layer, expert = self.cell()
        per_second = (layer + 1) * (expert + 1)
        is_under_way = lambda shown: "–" not in shown["rates"] and all(" " in line for line in shown["lines"])
        # One answer of the next, which is asked no more after it.
        before = self.await_counts(is_under_way)
        self.driver.execute_script("restarts = answersLeft = 1")
        first = self.await_counts(lambda shown: shown["state"] == "unreachable")
        total = lambda shown: int(shown["total"].replace(",", ""))
        self.assertLess(total(first), total(before))
        self.assertEqual((first["rates"], first["lines"]), (["–"] * 4, ["", ""]))
        self.driver.execute_script("answersLeft = Infinity")
        self.await_counts(is_under_way)
        self.assertEqual(self.text("cell-rate"), f"{per_second:.1f}")

    def test_without_a_model_nothing_of_the_one_before_is_shown(self):
        server = self.start()
        self.open(server, f"const LAYERS = 2, EXPERTS = 8; {PRETEND}")
        self.element("map").click()
        before = self.await_counts(lambda shown: "–" not in shown["rates"])
        self.assertFalse(before["isBlank"])
        self.driver.execute_script("isLoading = true; ++restarts")
        loading = self.await_counts(lambda shown: shown["state"] == "loading")
        self.assertEqual((loading["total"], loading["rates"], loading["lines"]), ("–", ["–"] * 4, ["", ""]))
        self.assertTrue(loading["isBlank"])
        self.assertEqual([self.text(name) for name in ("legend-high", "kv-use", "running")], ["–"] * 3)
        self.assertEqual(self.driver.find_elements(By.CSS_SELECTOR, "#balance tr"), [])
        self.driver.execute_script("isLoading = false")
        self.assertFalse(self.await_counts(lambda shown: shown["state"] == "ready")["isBlank"])

    def test_a_server_that_comes_back_is_shown_from_its_start(self):
        server = self.start()
        self.open(server)
        self.answer(server, golden_cases()[0])
        self.click_mode("total")
        self.element("map").click()
        self.browser.await_true(lambda: sum(self.totals_by_keys().values()) > 0)
        self.assertEqual(server.stop(), 0)
        self.browser.await_true(lambda: self.text("state-text") == "unreachable")
        back = self.start(f"--metrics_listen={server.metrics_address}")
        self.browser.await_true(lambda: self.text("state-text") == "ready")
        self.assertEqual(set(self.totals_by_keys().values()), {0})
        case = golden_cases()[1]
        self.answer(back, case)
        expected = back.expert_tokens()
        self.browser.await_true(lambda: self.totals_by_keys() == expected)

    def test_light_and_dark(self):
        server = self.start()
        self.open(server)
        self.answer(server, golden_cases()[0])
        self.click_mode("total")
        self.browser.await_true(lambda: len({tuple(colour) for row in self.colours() for colour in row}) > 5)
        background = "return getComputedStyle(document.body).backgroundColor"
        light, light_map = self.driver.execute_script(background), self.colours()
        self.browser.prefer("dark")
        self.assertNotEqual(self.driver.execute_script(background), light)
        self.browser.await_true(lambda: self.colours() != light_map)
        dark_map = self.colours()
        flat = lambda colours: [luminance(colour) for row in colours for colour in row]
        # Much is dark on light ground, and bright on dark ground.
        most = max(range(LAYERS * EXPERTS), key=lambda i: list(server.expert_tokens().values())[i])
        self.assertLess(flat(light_map)[most], max(flat(light_map)) - 60)
        self.assertGreater(flat(dark_map)[most], min(flat(dark_map)) + 60)

    def await_drawn(self, experts):
        """Waits until the map has the width that its frame leaves it: whole pixels for each cell, at least four."""
        widths = "return ['map', 'map-frame'].map((id) => document.getElementById(id).clientWidth)"

        def is_drawn():
            map_width, frame_width = self.driver.execute_script(widths)
            return map_width == LEFT + 1 + experts * min(150, max(4, (frame_width - LEFT - 1) // experts))

        self.browser.await_true(is_drawn)

    def test_nothing_moves_and_nothing_overflows(self):
        server = self.start()
        self.open(server)
        places = """return [...document.querySelectorAll('section, article, #map, #readout div, #balance')].map(
            (element) => { const r = element.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; })"""
        for width in (1280, 700, 390):
            with self.subTest(width=width):
                self.browser.resize(width, 1000)
                seen = lambda: self.driver.execute_script("return document.documentElement.scrollWidth")
                self.await_drawn(EXPERTS)
                self.assertLessEqual(seen(), width)
                before = self.driver.execute_script(places)
                total = sum(server.expert_tokens().values())
                for case in golden_cases()[:4]:
                    self.answer(server, case)
                shown = lambda: self.driver.execute_script(
                    "return fetch('/experts.json').then((r) => r.json()).then((a) => a.engine.generated_tokens)"
                )
                self.assertGreater(sum(server.expert_tokens().values()), total)
                generated = shown()
                self.assertGreater(generated, 0)
                self.browser.await_true(lambda: self.text("generated-rate") not in ("–", "0"))
                self.assertEqual(self.driver.execute_script(places), before)
                self.assertLessEqual(seen(), width)
        self.browser.resize(1280, 1000)

    def test_models_of_any_shape(self):
        server = self.start()
        for layers, experts in ((2, 8), (48, 128), (61, 256)):
            self.open(server, f"const LAYERS = {layers}, EXPERTS = {experts}; {PRETEND}")
            self.click_mode("total")
            for width in (1280, 390):
                with self.subTest(layers=layers, experts=experts, width=width):
                    self.browser.resize(width, 1000)
                    self.await_drawn(experts)
                    size = "const r = document.getElementById('map'); return [r.clientWidth, r.clientHeight]"
                    scrolled = "return document.documentElement.scrollWidth"
                    self.assertLessEqual(self.driver.execute_script(scrolled), width)
                    map_width, map_height = self.driver.execute_script(size)
                    self.assertGreaterEqual((map_width - LEFT - 1) / experts, 4)
                    self.assertGreaterEqual((map_height - TOP - 1) / layers, 8)
                    self.driver.execute_script("document.getElementById('map').focus()")
                    self.press(Keys.PAGE_DOWN, Keys.END)
                    self.assertEqual(self.cell(), (layers - 1, experts - 1))
                    # The cursor is in sight.
                    sight = "const f = document.getElementById('map-frame'); return f.scrollLeft + f.clientWidth"
                    self.assertGreaterEqual(self.driver.execute_script(sight) + 2, map_width)
            # Markup in a name is text, and what turns its direction does so for the name alone.
            self.assertIn("<b>bold</b>", self.text("model"))
            self.assertEqual(self.text_content("weights"), "· f · int4")
            self.browser.resize(1280, 1000)

    def test_a_hidden_page_does_not_ask(self):
        server = self.start()
        self.open(server, COUNT_WHAT_WILL_HAPPEN)
        asked = lambda: sum(address.endswith("experts.json") for address in self.browser.addresses())
        is_idle = lambda: self.driver.execute_script("return willHappen.size === 0")
        hide = """
        Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true});
        document.dispatchEvent(new Event('visibilitychange'));"""
        self.driver.execute_script(hide, True)
        # No timer and no answer that is waited for: nothing is left that could ask.
        self.browser.await_true(is_idle)
        before = asked()
        self.driver.execute_script(hide, False)
        self.browser.await_true(lambda: asked() > before + 1)

    def test_only_its_own_server_is_asked_and_nothing_is_complained_about(self):
        server = self.start()
        self.open(server)
        self.answer(server, golden_cases()[0])
        for mode in ("share", "total"):
            self.click_mode(mode)
        self.browser.await_true(lambda: self.text("generated-rate") != "–")
        own = f"http://{server.metrics_address}/"
        # What Chromium's own pages ask of Chromium is nobody's business.
        addresses = {address for address in self.browser.addresses() if not address.startswith("chrome")}
        self.assertIn(own, addresses)
        own_machine = ("http://127.0.0.1:", "about:", "data:")
        self.assertEqual([address for address in addresses if not address.startswith(own_machine)], [])
        self.assertEqual(self.browser.console(), [])


class ScreenshotTest(unittest.TestCase):
    @unittest.skipUnless("SLUICE_SCREENSHOTS" in os.environ, "SLUICE_SCREENSHOTS says where to")
    def test_screenshots(self):
        folder = pathlib.Path(os.environ["SLUICE_SCREENSHOTS"])
        server = sluice_server.SluiceServer("--model_name=demo")
        browser = Browser(1280, 940)
        done = threading.Event()

        def traffic(cases):
            while not done.is_set():
                for case in cases:
                    request = request_of(case)
                    request.bypass_prefix_cache = False
                    for _ in server.generation.Generate(request):
                        pass

        cases = golden_cases()
        clients = [threading.Thread(target=traffic, args=(cases[i::2],)) for i in range(2)]
        for client in clients:
            client.start()
        try:
            browser.driver.get(f"http://{server.metrics_address}/")
            element = lambda name: browser.driver.find_element(By.ID, name)
            lines = lambda: element("generated-line").find_element(By.TAG_NAME, "polyline").get_attribute("points")
            browser.await_true(lambda: len(lines().split()) > 60)
            ActionChains(browser.driver).move_to_element_with_offset(element("map"), 60, 20).perform()
            for scheme in ("light", "dark"):
                browser.prefer(scheme)
                browser.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
                browser.driver.save_screenshot(str(folder / f"page-{scheme}.png"))
        finally:
            done.set()
            for client in clients:
                client.join()
            browser.close()
            self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    unittest.main()
