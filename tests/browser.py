"""A page in headless Chromium, spoken to by its own protocol: sizes, accessibility tree, Tab key, screenshots."""

import asyncio
import base64
import os
import shutil
import subprocess
import time
from pathlib import Path

import aiohttp


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# A page that is made here and asks for nothing needs no sandbox, which containers do not grant.
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0")


class Browser:
    """`visit(url, look)`: open a page, and return what the coroutine `look(call)` returns."""

    def __init__(self, folder: Path) -> None:
        self._profile = folder / "profile"
        home = os.environ | {"HOME": str(folder)}
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={self._profile}", "about:blank"]
        self._process = subprocess.Popen(command, env=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    def _port(self) -> str:
        file = self._profile / "DevToolsActivePort"
        for _ in range(300):
            if file.is_file() and len(lines := file.read_text().splitlines()) > 1:
                return lines[0]
            time.sleep(0.1)
        raise TimeoutError("Chromium did not start within 30 s")

    def visit(self, url, look, width=1280, height=800):
        return asyncio.run(self._visit(url, look, width, height))

    async def _visit(self, url, look, width, height):
        address, count = f"http://127.0.0.1:{self._port()}", 0
        async with aiohttp.ClientSession() as session:
            pages = await (await session.get(f"{address}/json")).json()
            page = next(page for page in pages if page["type"] == "page")
            async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                events = []

                async def call(method, **params):
                    nonlocal count
                    count += 1
                    await socket.send_json({"id": count, "method": method, "params": params})
                    while True:
                        message = await socket.receive_json(timeout=60)
                        if message.get("id") == count:
                            assert "error" not in message, message
                            return message["result"]
                        events.append(message)

                call.events = events
                size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
                await call("Emulation.setDeviceMetricsOverride", **size)
                for domain in ("Page", "Network", "Log", "Runtime"):
                    await call(f"{domain}.enable")
                await call("Page.navigate", url=url)
                while not any(event["method"] == "Page.loadEventFired" for event in events):
                    events.append(await socket.receive_json(timeout=60))
                return await look(call), events


async def evaluate(call, script):
    """Value of a JavaScript expression; None where it is undefined."""
    found = await call("Runtime.evaluate", expression=script, returnByValue=True)
    assert "exceptionDetails" not in found, found
    return found["result"].get("value")


async def wait_for(call, script, seconds=30):
    """Value of a JavaScript expression, once it is true."""
    for _ in range(10 * seconds):
        if found := await evaluate(call, script):
            return found
        await asyncio.sleep(0.1)
    shown = await evaluate(call, "document.body.innerText")
    raise TimeoutError(f"not within {seconds} s: {script}; the page shows: {shown}")


async def press(call, key):
    """Press a key that writes nothing, such as Tab; Enter with its character, which is what buttons listen for."""
    text = {"text": "\r"} if key == "Enter" else {}
    codes = {"key": key, "code": key, "windowsVirtualKeyCode": {"Tab": 9, "Enter": 13}[key]}
    await call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **codes, **text)
    await call("Input.dispatchKeyEvent", type="keyUp", **codes)


async def choose_file(call, path, open_chooser):
    """Give a file to the chooser that `open_chooser()` opens."""
    await call("Page.setInterceptFileChooserDialog", enabled=True)
    await open_chooser()
    for _ in range(100):
        await evaluate(call, "0")  # events come with answers
        opened = [event["params"] for event in call.events if event["method"] == "Page.fileChooserOpened"]
        if opened:
            await call("DOM.setFileInputFiles", files=[str(path)], backendNodeId=opened[-1]["backendNodeId"])
            call.events[:] = [event for event in call.events if event["method"] != "Page.fileChooserOpened"]
            return
        await asyncio.sleep(0.1)
    raise TimeoutError("no file chooser opened")


async def named_nodes(call):
    """`(role, name)` of everything that the accessibility tree shows."""
    tree = (await call("Accessibility.getFullAXTree"))["nodes"]
    return [(node["role"]["value"], node.get("name", {}).get("value")) for node in tree if not node["ignored"]]


async def save_screenshot(call, path):
    shot = await call("Page.captureScreenshot", captureBeyondViewport=True)
    Path(path).write_bytes(base64.b64decode(shot["data"]))
