"""A headless Chromium, driven by ChromeDriver's WebDriver protocol, JSON over HTTP: no package needed.

    with Browser(1200, 900) as browser:
        browser.open(path)
        browser.click("input[type=range]", 0.25)        # a quarter of the way along it
"""
from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
INSTALL = "apt-get install -y --no-install-recommends chromium chromium-driver"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage",
         "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--hide-scrollbars")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"         # the protocol's key of an element's id


class Browser:
    """One window with a profile of its own; its log and what it asked the network for are kept."""

    def __init__(self, width: int, height: int):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.flags = [*FLAGS, f"--window-size={width},{height}", f"--user-data-dir={self.profile.name}"]

    def __enter__(self) -> Browser:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {**os.environ, "HOME": self.profile.name}
        self.driver = subprocess.Popen([DRIVER, f"--port={port}"], env=environment, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
        self.address = f"http://127.0.0.1:{port}"
        try:
            self._wait()
            wanted = {"goog:chromeOptions": {"binary": CHROMIUM, "args": self.flags},
                      "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
            session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self.session = f"/session/{session['sessionId']}"
        except BaseException:
            self.driver.kill()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._ask("DELETE", self.session)
        self.driver.terminate()
        self.driver.wait(20)
        self.profile.cleanup()

    def open(self, path: Path) -> None:
        """Load a file; back when it is loaded."""
        self._ask("POST", f"{self.session}/url", {"url": path.resolve().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """What the body of a JavaScript function returns."""
        return self._ask("POST", f"{self.session}/execute/sync", {"script": script, "args": list(arguments)})

    def click(self, selector: str, along: float = 0.5) -> None:
        """Scroll an element into view and press the mouse on it, `along` its width from the left."""
        element = self._find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        width = self.run("return arguments[0].getBoundingClientRect().width", element)
        x = round((along - 0.5) * width)
        move = {"type": "pointerMove", "origin": element, "x": x, "y": 0}
        actions = [move, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        self._ask("POST", f"{self.session}/actions", {"actions": [{"type": "pointer", "id": "mouse",
                                                                   "actions": actions}]})

    def type(self, selector: str, keys: str) -> None:
        """Press keys with the focus on an element."""
        element = self._find(selector)[ELEMENT]
        self._ask("POST", f"{self.session}/element/{element}/value", {"text": keys})

    def screenshot(self, path: Path) -> None:
        """A PNG of the window."""
        path.write_bytes(base64.b64decode(self._ask("GET", f"{self.session}/screenshot")))

    def devtools(self, command: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return self._ask("POST", f"{self.session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def log(self) -> list[str]:
        """What the console has shown since the last call, violations of the page's policy among it."""
        return [entry["message"] for entry in self._log("browser")]

    def requests(self) -> list[str]:
        """Addresses that pages have asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def _log(self, kind: str) -> list[dict]:
        return self._ask("POST", f"{self.session}/se/log", {"type": kind})

    def _find(self, selector: str) -> dict:
        return self._ask("POST", f"{self.session}/element", {"using": "css selector", "value": selector})

    def _ask(self, method: str, path: str, body: dict | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, data, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {json.load(error)['value']['message']}") from error

    def _wait(self) -> None:
        for _ in range(200):
            try:
                if self._ask("GET", "/status")["ready"]:
                    return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("ChromeDriver did not get ready")
