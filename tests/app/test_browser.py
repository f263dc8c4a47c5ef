"""The page in a real Chromium, with a detector whose answer is known."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image
from test_watched_runs import write_run

from detr_jittor.__main__ import main
from detr_jittor.app import serve as serving
from detr_jittor.app.serve import serve
from detr_jittor.predict.video import VideoWriter

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ROOT = Path(__file__).parents[2]
LONG = 300_000  # ms: two frameworks start, and Jittor compiles operators

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "first", 2)
    Image.new("RGB", (60, 40), "red").save(folder / "first" / "sheet.jpg")
    return folder


@pytest.fixture(scope="module")
def running(weights, runs):
    page = serve(str(weights), runs=str(runs), framework="pytorch", device="cpu", browser=False, wait=False)
    yield page
    page.close()
    assert not Path(page.scratch.name).exists()


@pytest.fixture
def page(running, request):
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed; on Debian: sudo apt install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as program:
        browser = program.chromium.launch(executable_path=CHROMIUM, args=[
            "--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"])
        page = browser.new_page(locale=getattr(request, "param", "en-US"), viewport={"width": 1400, "height": 1300},
                                permissions=["clipboard-read", "clipboard-write", "camera"])
        page.set_default_timeout(60_000)
        page.elsewhere = []
        page.on("request", lambda asked: page.elsewhere.append(asked.url)
                if not asked.url.startswith((running.address, "data:", "blob:")) else None)
        page.goto(running.address)
        yield page
        browser.close()


def shows(page, selector: str, text: str, timeout: int = 60_000) -> None:
    page.wait_for_function(f"document.querySelector({selector!r})?.innerText.includes({text!r})", timeout=timeout)


def give(page, picture) -> None:
    page.wait_for_selector("#picture input[type=file]", state="attached")
    page.set_input_files("#picture input[type=file]", str(picture))
    shows(page, "#told", "dog ×4")


def test_from_a_picture_to_what_the_model_sees(page, picture, cat, running, monkeypatch):
    give(page, picture)
    page.wait_for_selector("#found img")
    monkeypatch.setattr(running.models.loaded[next(iter(running.models.loaded))].predictor.twin, "predict", None)
    page.fill("#threshold input[type=number]", "0.95")
    page.press("#threshold input[type=number]", "Enter")
    shows(page, "#told", "Nothing is found")
    page.fill("#threshold input[type=number]", "0.5")
    page.press("#threshold input[type=number]", "Enter")
    shows(page, "#told", "dog ×4")
    monkeypatch.undo()

    box = page.locator("#found img").bounding_box()
    page.click("#found img", position={"x": box["width"] / 2, "y": box["height"] / 2})
    page.wait_for_selector("#look img")
    shows(page, "#look", "dog")

    for button, suffix in (("#save-picture", "jpg"), ("#save-json", "json")):
        with page.expect_download() as download:
            page.click(button)
        file = download.value.path()
        if suffix == "json":
            found = json.loads(Path(file).read_text())
            assert [thing["category"] for thing in found["detections"]] == ["dog"] * 4
        else:
            assert Image.open(file).size == (500, 400)

    page.fill("#weights input", str(cat))
    page.press("#weights input", "Enter")
    page.click("#load")
    shows(page, "#told", "cat ×4")
    assert page.elsewhere == []


def test_the_twins_side_by_side(page, picture):
    give(page, picture)
    page.click("#compare")
    page.wait_for_selector("#side img", timeout=LONG)
    shows(page, "#difference", "Δ score ≤ 0", LONG)
    assert page.locator("#side img").count() >= 2
    captions = page.inner_text("#side")
    assert "Jittor: 4, " in captions and "PyTorch: 4, " in captions and captions.count(" ms") == 2


COPY = """async name => {
  const picture = new OffscreenCanvas(100, 80), brush = picture.getContext("2d");
  brush.fillStyle = name; brush.fillRect(0, 0, 100, 80);
  const blob = await picture.convertToBlob({type: "image/png"});
  await navigator.clipboard.write([new ClipboardItem({"image/png": blob})]);
}"""


def ground(page) -> tuple[int, ...]:
    """The colour of the picture that is shown, at its lower edge, where no box is; () while there is none."""
    return tuple(page.evaluate("""async () => {
      const image = document.querySelector("#found img");
      if (!image?.complete || !image.naturalWidth) return [];
      const picture = new OffscreenCanvas(image.naturalWidth, image.naturalHeight), brush = picture.getContext("2d");
      brush.drawImage(image, 0, 0);
      return [...brush.getImageData(5, image.naturalHeight - 5, 1, 1).data].slice(0, 3);
    }"""))


def until(page, act, is_so, wait: int = 10_000) -> None:
    """Do it again until it is so, as a person does: on a busy machine the page may not have been listening yet."""
    for _ in range(12):
        act()
        for _ in range(wait // 200):
            if is_so():
                return
            page.wait_for_timeout(200)
    raise AssertionError(f"not after twelve times: {act}")


def test_a_picture_from_the_clipboard(page):
    """With Ctrl-V, also where a picture is already, and with Gradio's button."""
    page.wait_for_selector("#picture input[type=file]", state="attached")
    for name, colour in (("rgb(200, 0, 0)", (200, 0, 0)), ("rgb(0, 0, 200)", (0, 0, 200))):
        page.evaluate(COPY, name)
        until(page, lambda: page.keyboard.press("Control+V"), lambda colour=colour: ground(page) == colour)
        shows(page, "#told", "dog ×4")
    page.evaluate(COPY, "rgb(0, 200, 0)")
    page.click("#picture button[aria-label='Remove Image']")
    page.click("#picture button[aria-label='Paste from clipboard']")
    until(page, lambda: None, lambda: ground(page) == (0, 200, 0))


def test_a_picture_from_the_camera(page):
    """Chromium's fake camera: a green picture with a clock."""
    page.click("#picture button[aria-label='Capture from camera']")
    page.click("#picture [title='grant webcam access'] button")
    capture = "#picture button[aria-label='capture photo']"
    until(page, lambda: page.query_selector(capture) and page.click(capture),
          lambda: "dog ×4" in page.inner_text("#told"))
    page.wait_for_selector("#found img")
    assert page.evaluate("document.querySelector('#found img').naturalWidth") >= 320


@pytest.mark.parametrize("kind", ["masks", "panoptic"])
def test_masks_and_segments(page, picture, with_masks, kind):
    page.fill("#weights input", str(with_masks[kind]))
    page.press("#weights input", "Enter")
    page.click("#load")
    shows(page, "#told", "2 classes")
    page.wait_for_selector("#picture input[type=file]", state="attached")
    page.set_input_files("#picture input[type=file]", str(picture))
    shows(page, "#told", "dog")
    page.wait_for_selector("#found img")
    with page.expect_download() as download:
        page.click("#save-json")
    told = json.loads(Path(download.value.path()).read_text())
    things = told["segments" if kind == "panoptic" else "detections"]
    assert {thing["category"] for thing in things} == {"dog"}
    assert all(thing["segmentation"]["size"] == [80, 100] for thing in things)
    box = page.locator("#found img").bounding_box()
    page.click("#found img", position={"x": box["width"] / 3, "y": box["height"] / 3})
    page.wait_for_selector("#look img")
    page.click("#compare")
    page.wait_for_selector("#side img", timeout=LONG)
    shows(page, "#difference", "Δ mask", LONG)


def test_a_video(page, tmp_path):
    """Also where there is no program ffmpeg, which Gradio would ask."""
    with closing(VideoWriter(tmp_path / "film.mp4", Fraction(4))) as film:
        for grey in (60, 120):
            film.add(Image.new("RGB", (100, 80), (grey,) * 3))
    page.get_by_role("tab", name="Video").click()
    page.wait_for_selector("#video input[type=file]", state="attached")
    page.set_input_files("#video input[type=file]", str(tmp_path / "film.mp4"))
    page.wait_for_selector("#video video")
    page.click("#video-go")
    page.wait_for_selector("#video-found video")


@pytest.mark.parametrize("page", ["zh-CN"], indirect=True)
def test_in_chinese_and_the_runs(page):
    """The language is the browser's, and can be changed."""
    page.get_by_role("tab", name="训练").click()
    shows(page, "#runs", "first")
    shows(page, "#runs", "0.400")
    page.wait_for_selector("#pictures img")
    page.wait_for_selector("#plot-loss canvas, #plot-loss svg")
    page.get_by_label("English").click()
    page.wait_for_function("document.body.innerText.includes('The latest pictures of each run')")


def test_a_file_that_is_no_picture_is_told(page, tmp_path):
    (tmp_path / "no.png").write_bytes(b"not a picture")
    page.wait_for_selector("#picture input[type=file]", state="attached")
    page.set_input_files("#picture input[type=file]", str(tmp_path / "no.png"))
    page.wait_for_function("document.body.innerText.includes('no.png: not a readable picture')")
    assert "Traceback" not in page.inner_text("body") and "/tmp" not in page.inner_text(".toast-wrap")


def test_uploads_have_a_limit(running):
    """One that is larger is refused, and nothing of it is kept."""
    body = b"--x\r\nContent-Disposition: form-data; name=\"files\"; filename=\"big.png\"\r\n\r\n" + \
        b"0" * (serving.LARGEST_UPLOAD * 1024 * 1024 + 1024) + b"\r\n--x--\r\n"
    ask = urllib.request.Request(f"{running.address}gradio_api/upload", body,
                                 {"Content-Type": "multipart/form-data; boundary=x"})
    with pytest.raises(urllib.error.HTTPError, match="413"):
        urllib.request.urlopen(ask)
    assert not list(Path(running.scratch.name).rglob("big.png"))


def test_other_machines_only_with_a_warning(weights, capsys):
    open_page = serve(str(weights), framework="pytorch", device="cpu", host="0.0.0.0", browser=False, wait=False)
    try:
        assert open_page.page.is_open and "There is no password" in capsys.readouterr().err
        with pytest.raises(serving.DetrError, match="no other model can be loaded"):
            open_page.page.loaded("detr-r50", None, 0.5, "English", None)
    finally:
        open_page.close()


@pytest.mark.parametrize("end, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_watching_ends_and_leaves_nothing(runs, tmp_path, end, status):
    """`detr-jittor watch` imports no framework, and its folder of temporary files is gone with it."""
    process = subprocess.Popen([sys.executable, "-m", "detr_jittor", "watch", str(runs), "--no_browser"], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
                               env={**os.environ, "TMPDIR": str(tmp_path)})
    address = process.stdout.readline().split()[0]
    assert address.startswith("http://127.0.0.1:") and list(tmp_path.glob("detr-jittor-*"))
    assert b"DETR-Jittor" in urllib.request.urlopen(address, timeout=60).read()
    process.send_signal(end)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == status and "Traceback" not in told
    assert not list(tmp_path.glob("detr-jittor-*"))


def test_without_gradio_there_is_one_line(weights, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["app", "--weights", str(weights), "--no_browser"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the page needs the package gradio" in line and 'pip install "detr-jittor[app]"' in line
