"""Starts the page on this machine, and leaves nothing behind when it ends."""

import os
import signal
import sys
import tempfile
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path

from detr_jittor.app.answers import Models
from detr_jittor.app.page import Page, gradio
from detr_jittor.errors import DetrError

LARGEST_UPLOAD = 64  # MB: a picture or a short video
# Ctrl-V anywhere on the page: Gradio itself reads the clipboard only at a click on its button.
PASTE = """() => document.addEventListener("paste", event => {
  const file = [...event.clipboardData.files].find(file => file.type.startsWith("image/"));
  const input = document.querySelector("#picture input[type=file]");
  if (!file || !input || !document.querySelector("#picture").offsetParent) return;  // another tab is open
  event.preventDefault();
  const pasted = new DataTransfer();
  pasted.items.add(file);
  input.files = pasted.files;
  input.dispatchEvent(new Event("change", {bubbles: true}));
})"""
FONTS = ("system-ui", "Segoe UI", "Noto Sans CJK SC", "sans-serif")  # of the reader's machine: nothing is fetched


def is_local(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def serve(weights: str, *, runs: str = "", host: str = "127.0.0.1", port: int | None = None, browser: bool = True,
          wait: bool = True, **options):
    """Open the page, until Ctrl-C.

    Args:
        weights: a published model's name or a file; "" for a page with runs alone.
        runs: the folder whose runs are shown, or "".
        port: None: the first free one from 7860 on.
        wait: until it is stopped; else the page is returned, to be closed by whoever asked for it.
        options: as `Detector` takes them.

    Errors: DetrError if Gradio is not installed, the model cannot be had, the folder is none or the port is taken.
    """
    if runs and not Path(runs).is_dir():
        raise DetrError(f"{runs}: no such folder.", "Give the --output_dir of a run, or a folder with several.")
    for name, value in {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}.items():
        os.environ.setdefault(name, value)  # nothing is told to anyone, unless the user wishes it
    scratch = tempfile.TemporaryDirectory(prefix="detr-jittor-")  # pictures that are shown, until the page ends
    os.environ["GRADIO_TEMP_DIR"] = scratch.name
    gradio()
    if not is_local(host):
        print(f"warning: --host {host}: whoever reaches this machine can use the page, and with it the processor. "
              "There is no password and no encryption.", file=sys.stderr)
    models = Models(**options)
    if weights:
        models.get(weights)
    page = Page(models, weights, Path(runs) if runs else None, Path(scratch.name), not is_local(host))
    running = Running(page, models, scratch, host, port, browser)
    if not wait:
        return running
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folder is removed then too
    with closing(running):
        print(f"{running.address} (Ctrl-C ends it)", flush=True)
        signal.pause()
    return running


class Running:
    """The page while it can be reached."""

    def __init__(self, page: Page, models: Models, scratch: tempfile.TemporaryDirectory, host: str, port: int | None,
                 browser: bool):
        gr, self.page, self.models, self.scratch = gradio(), page, models, scratch
        theme = gr.themes.Default(font=FONTS, font_mono=("monospace",))
        self.blocks = page.build()
        try:
            _, self.address, _ = self.blocks.launch(
                server_name=host, server_port=port, share=False, inbrowser=browser, quiet=True, theme=theme,
                prevent_thread_lock=True, max_file_size=f"{LARGEST_UPLOAD}mb", ssr_mode=False, footer_links=[],
                enable_monitoring=False, css="#language { justify-content: flex-end }", js=PASTE)
        except OSError as error:
            self.close()
            raise DetrError(f"--port {port or ''} cannot be had ({error}).", "Give another one.") from None

    def close(self) -> None:
        self.blocks.close(verbose=False)
        self.models.close()
        self.scratch.cleanup()
