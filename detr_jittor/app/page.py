"""The page: what is on it and what happens on a click. Gradio alone is known here, the computing is in answers.py.

Everything that changes with the language is in `Spoken`; every handler gets the language last.
"""

import functools
import json
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from PIL import Image

from detr_jittor.align.worker import WorkerError
from detr_jittor.app.answers import FLOOR, Answer, Models
from detr_jittor.app.runs import Run, runs_in
from detr_jittor.app.words import LANGUAGES, preferred, word
from detr_jittor.checkpoint.official import OFFICIAL
from detr_jittor.data.decode import read_image
from detr_jittor.errors import DetrError
from detr_jittor.extras import package
from detr_jittor.predict.video import Video, VideoWriter
from detr_jittor.report.pictures import enlargement

TWINS = {"jittor": "Jittor", "pytorch": "PyTorch"}
TABLE = ["", "●", "epoch", "loss", "AP", "AP max", "lr", "images/s"]
BUTTONS = ["fullscreen", "download"]  # on pictures; none that shares them elsewhere
EVERY = 5  # seconds from one look at the runs to the next


def gradio():
    """Errors: DetrError if it is not installed."""
    return package("gradio", "app", "the page")


class Page:
    """The page's parts. Args of the class: scratch: a folder for files that the browser fetches."""

    def __init__(self, models: Models, weights: str, runs: Path | None, scratch: Path, is_open: bool):
        """
        Args:
            weights: the model to begin with.
            runs: the folder whose runs are shown; None: no such tab.
            is_open: whether other machines can reach the page; no file of this machine can be named then.
        """
        self.gr, self.models, self.runs, self.scratch, self.is_open = gradio(), models, runs, scratch, is_open
        self.weights = weights
        self.spoken: list[tuple[object, str, str]] = []  # (part, its property, the word)

    def build(self):
        """The whole page, ready to be launched."""
        gr = self.gr
        with gr.Blocks(title="DETR-Jittor", analytics_enabled=False, delete_cache=(600, 3600)) as blocks:
            with gr.Row():
                self.about = self.say(gr.Markdown(), "value", "about_open" if self.is_open else "about")
                self.language = gr.Radio(list(LANGUAGES), value="English", show_label=False, container=False,
                                         elem_id="language", scale=0, min_width=220)
            with gr.Tabs():
                if self.weights:
                    with self.say(gr.Tab(), "label", "tab_picture"):
                        self.picture_tab()
                    with self.say(gr.Tab(), "label", "tab_video"):
                        self.video_tab()
                if self.runs:
                    with self.say(gr.Tab(), "label", "tab_runs"):
                        self.runs_tab()
            parts = [part for part, _, _ in self.spoken]
            self.language.change(self.translated, self.language, parts, show_progress="hidden")
            blocks.load(self.handler(self.greeted), None, [self.language, *parts], show_progress="hidden")
        return blocks

    def say(self, part, property: str, key: str):
        self.spoken.append((part, property, key))
        setattr(part, property, word(key, "English"))
        return part

    def translated(self, language: str) -> list:
        return [self.gr.update(**{name: word(key, language)}) for _, name, key in self.spoken]

    def greeted(self, request) -> list:
        language = preferred(request.headers.get("accept-language"))
        return [language, *self.translated(language)]

    def picture_tab(self) -> None:
        gr = self.gr
        self.answer, self.chosen = gr.State(None, time_to_live=3600), gr.State(self.weights)
        usual = self.models.get(self.weights).predictor.threshold
        with gr.Row():
            with gr.Column():
                picture = self.say(gr.Image(sources=["upload", "clipboard", "webcam"], height=420, elem_id="picture"),
                                   "label", "picture")
                threshold = self.say(gr.Slider(FLOOR, 1, value=usual, step=0.01, elem_id="threshold"), "label",
                                     "threshold")
                with gr.Row():
                    save_picture = self.say(gr.DownloadButton(elem_id="save-picture"), "label", "save_picture")
                    save_json = self.say(gr.DownloadButton(elem_id="save-json"), "label", "save_json")
                with gr.Row(visible=not self.is_open):
                    weights = self.say(gr.Dropdown([*OFFICIAL], value=self.weights, allow_custom_value=True,
                                                   elem_id="weights"), "label", "weights")
                    load = self.say(gr.Button(elem_id="load", scale=0), "value", "load")
            with gr.Column():
                drawn = self.say(gr.Image(interactive=False, format="png", buttons=BUTTONS, elem_id="found"), "label",
                                 "found")
                told = gr.Markdown(elem_id="told")
                looked = self.say(gr.Image(interactive=False, format="jpeg", buttons=BUTTONS, elem_id="look"), "label",
                                  "look")
                compare = self.say(gr.Button(elem_id="compare"), "value", "compare")
                side = self.say(gr.Gallery(columns=2, object_fit="contain", buttons=BUTTONS, elem_id="side",
                                       interactive=False),
                                "label", "side")
                difference = gr.Markdown(elem_id="difference")
        shown = [drawn, told, save_picture, save_json]
        picture.change(self.handler(self.answered), [picture, self.chosen, threshold, self.language],
                       [self.answer, *shown, looked, side, difference], preprocess=False)
        threshold.change(self.handler(self.shown), [self.answer, threshold, self.language], shown,
                         trigger_mode="always_last", show_progress="hidden")
        drawn.select(self.handler(self.clicked), [self.answer, threshold, self.language], looked)
        compare.click(self.handler(self.compared), [self.answer, self.chosen, threshold, self.language],
                      [side, difference])
        load.click(self.handler(self.loaded), [weights, picture, threshold, self.language],
                   [self.chosen, threshold, self.answer, *shown, looked, side, difference], preprocess=False)
        self.threshold = threshold

    def handler(self, function: Callable) -> Callable:
        """The function, whose faults are shown on the page in one line."""
        gr = self.gr

        @functools.wraps(function)
        def safe(*arguments):
            try:
                return function(*arguments)
            except (DetrError, WorkerError) as error:
                told = re.sub(rf"{re.escape(str(self.scratch))}/\S*/", "", str(error))  # where an upload lies: its name
                raise gr.Error(told, print_exception=False) from None

        # Gradio reads the annotations to know that it is to pass the click and the request.
        safe.__annotations__ = {name: {"event": gr.SelectData, "request": gr.Request}[name]
                                for name in ("event", "request") if name in function.__code__.co_varnames}
        return safe

    def answered(self, file: dict | None, weights: str, threshold: float, language: str, request) -> list:
        """Args: file: what Gradio knows of an upload, which it has not opened: what is wrong with it is said in our
        words."""
        if not file or not file.get("path"):
            return [None, None, "", None, None, None, None, ""]
        answer = Answer(self.models.get(weights), read_image(file["path"]))
        return [answer, *self.shown(answer, threshold, language, request), None, None, ""]

    def shown(self, answer: Answer | None, threshold: float, language: str, request) -> list:
        """[drawing, what is said of it, the file of the drawing, the file of JSON]"""
        if answer is None:
            return [None, "", None, None]
        found = answer.found(threshold)
        drawing = found.draw()
        folder = self.scratch / str(request.session_hash)
        folder.mkdir(exist_ok=True)
        drawing.save(folder / "found.jpg", quality=95)
        (folder / "found.json").write_text(json.dumps(found.to_dict(), ensure_ascii=False, indent=1), "utf-8")
        names: dict[str, int] = {}
        for name in found.names:
            names[name] = names.get(name, 0) + 1
        text = word("nothing", language) if not len(found) else word(
            "count", language, n=len(found), ms=1000 * answer.seconds, twin=TWINS[answer.predictor.twin.name],
            names=", ".join(f"{name} ×{n}" if n > 1 else name for name, n in names.items()))
        return [drawing, text, str(folder / "found.jpg"), str(folder / "found.json")]

    def clicked(self, answer: Answer | None, threshold: float, language: str, event):
        if answer is None:
            raise DetrError(word("no_picture", language))
        scale = enlargement(answer.pixels.shape[1::-1])  # of the drawing
        x, y = (position / scale for position in event.index)
        looked = answer.look_at(threshold, x, y)
        if looked is None:
            raise DetrError(word("no_encoder", language))
        name, drawing = looked
        label = word("looks_at", language, name=name) if name else word("looks_from", language)
        return self.gr.update(value=drawing, label=label)

    def compared(self, answer: Answer | None, weights: str, threshold: float, language: str) -> list:
        if answer is None:
            raise DetrError(word("no_picture", language))
        results, apart = self.models.compare(weights, answer, threshold)
        pictures = [(found.draw(), f"{TWINS[framework]}: {len(found)}, {1000 * seconds:.0f} ms")
                    for framework, (found, seconds) in results.items()]
        return [pictures, apart]

    def loaded(self, weights: str, file: dict | None, threshold: float, language: str, request) -> list:
        if self.is_open:
            raise DetrError("this page can be reached from other machines, so no other model can be loaded here.")
        detector = self.models.get(weights.strip())
        usual = detector.predictor.threshold
        results = self.answered(file, weights.strip(), usual, language, request)
        results[2] = results[2] or word("loaded", language, name=Path(weights).name, n=len(detector.names),
                                        twin=TWINS[detector.framework])
        return [weights.strip(), usual, *results]

    def video_tab(self) -> None:
        gr = self.gr
        with gr.Row():
            video = self.say(gr.Video(sources=["upload", "webcam"], include_audio=False, elem_id="video"), "label",
                             "video")
            drawn = self.say(gr.Video(interactive=False, elem_id="video-found"), "label", "video_out")
        go = self.say(gr.Button(elem_id="video-go"), "value", "video_go")
        # as it came: Gradio would ask a program for it, ffmpeg, which need not be here
        go.click(self.handler(self.filmed), [video, self.chosen, self.threshold, self.language], drawn,
                 preprocess=False)

    def filmed(self, file: dict | None, weights: str, threshold: float, language: str, request) -> str:
        if not file or not file.get("path"):
            raise DetrError(word("no_picture", language))
        detector, progress = self.models.get(weights), self.gr.Progress()
        folder = self.scratch / str(request.session_hash)
        folder.mkdir(exist_ok=True)
        with closing(Video(file["path"])) as video, closing(VideoWriter(folder / "found.mp4", video.rate)) as out:
            for number, (_, pixels) in enumerate(video.pictures()):
                out.add(Answer(detector, pixels).found(threshold).draw())
                progress((number + 1, video.length or None))
        return str(folder / "found.mp4")

    def runs_tab(self) -> None:
        gr = self.gr
        table = gr.Dataframe(headers=TABLE, interactive=False, elem_id="runs")
        plots = {}
        for pair in (("loss", "ap"), ("lr", "speed")):
            with gr.Row():
                for kind in pair:
                    plots[kind] = self.say(gr.LinePlot(x="epoch", y="value", color="run", height=300, title=kind,
                                                       y_title=" ", elem_id=f"plot-{kind}"), "title", kind)
        gallery = self.say(gr.Gallery(columns=2, object_fit="contain", buttons=BUTTONS, elem_id="pictures",
                                      interactive=False), "label",
                           "pictures")
        parts, seen = [table, *plots.values(), gallery], gr.State(None)
        timer = gr.Timer(EVERY)
        for event in (timer.tick, self.language.change):
            event(self.watched, [seen, self.language], [seen, *parts], show_progress="hidden")

    def watched(self, seen, language: str) -> list:
        """What the parts of the tab show now; nothing changes on the page while nothing changes in the runs."""
        runs = runs_in(self.runs)
        now = [(run.state(), len(run.records), [(str(p), p.stat().st_mtime) for p in run.pictures if p.exists()])
               for run in runs]
        if now == seen:
            return [seen, *[self.gr.skip()] * 6]
        rows = [run.state() for run in runs] or [[word("no_runs", language, folder=self.runs), *[""] * 7]]
        pictures = [(opened(file), f"{run.name}: {file.name}") for run in runs for file in run.pictures]
        return [now, rows, *(curve(runs, kind) for kind in ("loss", "ap", "lr", "speed")), pictures]


def curve(runs: list[Run], kind: str):
    """The points of one plot, as Gradio takes them."""
    import pandas

    rows = [(epoch, value, name) for run in runs for name, points in run.curves()[kind].items()
            for epoch, value in points]
    return pandas.DataFrame(rows, columns=["epoch", "value", "run"])


def opened(file: Path) -> Image.Image:
    return Image.fromarray(read_image(file))


