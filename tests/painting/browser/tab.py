"""A tab of the browser with the page of `weakseg paint`, moved as a hand would."""

import time

LAYERS = "document.querySelector('canvas')?.dataset.shown?.includes"
SAVED = "document.querySelector('.saved').innerText === 'saved'"


def eventually(condition):
    """Wait for what is true in a moment."""
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


class Tab:
    """One tab with the page, moved by image coordinates."""

    def __init__(self, browser, painting, image, size=(120, 80)):
        self.size = size
        self.host = painting.address.partition("//")[2]
        self.asked, self.received = [], []
        try:
            self.open(browser, painting.link(image=image))
        except Exception as error:
            if "has been closed" not in str(error):
                raise
            self.open(browser, painting.link(image=image))  # it crashed, as browsers do
        self.wait(f"{LAYERS}('image') && {LAYERS}('scribbles')")

    def open(self, browser, address):
        self.page = browser.new_page(viewport={"width": 1200, "height": 750})
        self.page.set_default_timeout(60_000)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("websocket", lambda socket: socket.on("framereceived", self.receive))
        self.page.goto(address)

    def receive(self, frame):
        self.received.append(frame if isinstance(frame, str) else frame.decode(errors="replace"))

    def wait(self, condition):
        self.page.wait_for_function(condition)

    def at(self, x, y):
        """Where a point of the image is on the page."""
        box = self.page.locator("canvas").first.bounding_box()
        scale = min(box["width"] / self.size[0], box["height"] / self.size[1])
        left = box["x"] + (box["width"] - self.size[0] * scale) / 2
        top = box["y"] + (box["height"] - self.size[1] * scale) / 2
        return left + x * scale, top + y * scale

    def stroke(self, *points):
        self.page.mouse.move(*self.at(*points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.at(*point), steps=6)
        self.page.mouse.up()

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def color(self, x, y):
        """The color that the canvas shows at a point of the image."""
        box = self.page.locator("canvas").first.bounding_box()
        across, down = self.at(x, y)
        script = """([x, y]) => Array.from(document.querySelector('canvas').getContext('2d')
            .getImageData(x * devicePixelRatio, y * devicePixelRatio, 1, 1).data)"""
        return self.page.evaluate(script, [across - box["x"], down - box["y"]])[:3]

    def saved(self):
        """Wait until all that was drawn is on the disk."""
        self.wait(f"document.querySelector('canvas').dataset.pending === '0' && {SAVED}")
