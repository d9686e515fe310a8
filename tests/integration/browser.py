"""A headless Chromium for tests, which can reach nothing but this machine."""

import json
import os
import shutil
import tempfile

from selenium import webdriver
from selenium.webdriver.chrome.service import Service


class Browser:
    """Opens `width` x `height`; what the console says and which addresses are asked for is recorded."""

    def __init__(self, width=1280, height=1000):
        self._folder = tempfile.mkdtemp(prefix="sluice_browser_")
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        arguments = [
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--hide-scrollbars",
            "--force-device-scale-factor=1",
            "--force-color-profile=srgb",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
            f"--user-data-dir={self._folder}",
            f"--window-size={width},{height}",
        ]
        if os.geteuid() == 0:
            # Chromium's sandbox refuses to work for root.
            arguments.append("--no-sandbox")
        for argument in arguments:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self._addresses = []
        self._console = []
        self.resize(width, height)

    def close(self):
        self.driver.quit()
        shutil.rmtree(self._folder, ignore_errors=True)

    def resize(self, width, height):
        """The page's own size, whatever the window has around it."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def prefer(self, scheme):
        """`light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def run_in_new_pages(self, source):
        """Runs a script before those of pages that are opened from now on, until forget() of what is returned."""
        return self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})["identifier"]

    def forget(self, script):
        self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": script})

    def addresses(self):
        """Of everything that pages have asked for so far."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self._addresses.append(message["params"]["request"]["url"])
        return self._addresses

    def console(self):
        """All messages so far."""
        self._console += [entry["message"] for entry in self.driver.get_log("browser")]
        return self._console

    def await_true(self, condition):
        """Waits until condition() holds; every look is a round trip to the browser."""
        while not condition():
            pass
