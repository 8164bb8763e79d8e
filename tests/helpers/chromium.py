"""A page in Chromium, driven over its debugging pipe: nothing but the browser is needed."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Browser:
    """One tab. What its page logs is kept in `console`."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive, self._rest, self._number = send, receive, b"", 0
        self.console: list[str] = []
        self._asked: dict[str, str] = {}
        self.downloaded = 0
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "DOM", "Log"):
            self(f"{domain}.enable")

    _session: str | None = None

    @property
    def requests(self) -> list[str]:
        """Addresses that were asked for; what the page's policy stopped was not."""
        return list(self._asked.values())

    def __call__(self, method: str, **given: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": given}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._receive, 2**16)
            assert part, "the browser ended"
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(text)
        given = answer.get("params", {})
        match answer.get("method"):
            case "Runtime.consoleAPICalled":
                self.console.append(" ".join(str(each.get("value", each)) for each in given["args"]))
            case "Runtime.exceptionThrown":
                self.console.append(json.dumps(given["exceptionDetails"]))
            case "Log.entryAdded":
                self.console.append(given["entry"]["text"])
            case "Network.requestWillBeSent":
                self._asked[given["requestId"]] = given["request"]["url"]
            case "Network.loadingFailed" if given.get("blockedReason") == "csp":
                self._asked.pop(given["requestId"], None)
            case "Page.downloadProgress" | "Browser.downloadProgress" if given["state"] == "completed":
                self.downloaded += 1
        return answer

    def open(self, page: Path, *, width: int = 1280, height: int = 860, dark: bool = False) -> None:
        self.console.clear(), self._asked.clear()
        self.size(width, height)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self("Emulation.setEmulatedMedia", features=scheme)
        self("Page.navigate", url=page.as_uri())
        self.wait("location.protocol === 'file:' && document.readyState === 'complete'")

    def size(self, width: int, height: int) -> None:
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def value(self, expression: str) -> Any:
        found = self("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 60) -> Any:
        """Until it is true in the page, which is also its value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := self.value(expression):
                return found
            time.sleep(0.03)
        raise AssertionError(
            f"{expression} did not become true: {self.value('document.body.innerText')}; {self.console}"
        )

    def give(self, selector: str, *files: Path) -> None:
        """Chooses files in an input."""
        root = self("DOM.getDocument")["root"]["nodeId"]
        node = self("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def click(self, selector: str) -> None:
        self.value(f"document.querySelector({json.dumps(selector)}).click()")

    def text(self, selector: str) -> str:
        found: str = self.value(f"document.querySelector({json.dumps(selector)}).innerText")
        return found

    def download(self, selector: str, folder: Path, name: str) -> Path:
        """The file that a click saves."""
        self("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder), eventsEnabled=True)
        done = self.downloaded
        self.click(selector)
        for _ in range(400):
            self.value("0")
            if self.downloaded > done:
                return folder / name
            time.sleep(0.03)
        raise AssertionError(f"{selector} saved nothing")

    def picture(self, file: Path) -> Path:
        shot = self("Page.captureScreenshot", captureBeyondViewport=False)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(base64.b64decode(shot["data"]))
        return file


@contextmanager
def chromium(program: str, folder: Path, *options: str) -> Iterator[Browser]:
    """A browser with an empty profile and no network of its own."""
    to_browser, send = os.pipe()
    receive, from_browser = os.pipe()
    # The browser reads from 3 and writes to 4.
    shell = f'exec 3<&{to_browser} 4>&{from_browser}; exec "$@"'
    process = subprocess.Popen(
        [
            "bash", "-c", shell, "bash", program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}", *options, "about:blank",
        ],
        pass_fds=(to_browser, from_browser), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    os.close(to_browser), os.close(from_browser)
    try:
        yield Browser(send, receive)
    finally:
        os.close(send)
        process.terminate()
        process.wait(20)
        os.close(receive)
