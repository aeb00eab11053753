"""The page of `wmremoval app`: its elements, what they do, and its server, which only this computer reaches."""

import atexit
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmremoval.app.session import (
    ADD,
    MOST_BYTES,
    MOST_FILES,
    TAKE,
    Session,
    end_session,
    line_of,
    mask_of,
    new_session,
    restore,
    restore_again,
    views,
    with_strokes,
    words_of,
    zipped,
)
from wmremoval.files import temporary_folder
from wmremoval.photofile.read import MAX_PIXELS
from wmremoval.restore.decision import MOST_SENSITIVITY
from wmremoval.restore.remover import STAGES, Remover

if TYPE_CHECKING:  # Gradio is an extra, and slow to import
    import gradio

HOST = "127.0.0.1"  # the address that the server listens on; no other computer reaches it
MOST_UPLOAD = 4 * MOST_BYTES  # bytes; the server cuts a larger upload off. Below, the page itself refuses with a line.
KEPT = 86_400  # seconds after which an upload is deleted, if the page runs that long. Chosen, not measured.
DELETED_EVERY = 3_600  # seconds between two searches for such uploads. Chosen, not measured.
# The browser is told to load nothing from elsewhere. Gradio's page needs its own inline scripts, and workers as blobs.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:; form-action 'self'; frame-ancestors 'self'"
)
CSS = """
#listing .wrap { flex-direction: column; flex-wrap: nowrap; max-height: 22em; overflow-y: auto; }
#listing label { width: 100%; }
"""
INTRODUCTION = f"""# Remove visible watermarks
Everything is done on this computer, and nothing is sent anywhere. At most {MOST_FILES} photographs at once, each of at most
{MOST_BYTES // 1_000_000} MB and {MAX_PIXELS // 1_000_000} megapixels. Use photographs that you own or may edit."""
BRUSH = """**Correct the mask**, which is shown in red: paint in **green** to add to it, in **blue** to take from it. The palette at the
left chooses the colour. Then press *Again with this mask*."""
READY = "Choose photographs, then press *Remove marks*."


def build_page(remover: Remover, root: Path) -> "gradio.Blocks":
    """The page, not yet served.

    Args:
        remover: restores the photographs, one at a time.
        root: folder for the results; the caller deletes it.
    """
    import gradio as gr

    with gr.Blocks(title="wmremoval", analytics_enabled=False, delete_cache=(DELETED_EVERY, KEPT)) as page:
        session = gr.State(None, delete_callback=end_session)
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=1):
                uploads = gr.File(file_count="multiple", label="Photographs", height=180, elem_id="uploads")
                sensitivity = _sensitivity()
                start = gr.Button("Remove marks", variant="primary", elem_id="start")
            with gr.Column(scale=2):
                status = gr.Markdown(READY, elem_id="status")
                listing = gr.Radio([], label="Results: choose one to look at", visible=False, elem_id="listing")
                with gr.Row():
                    one = gr.DownloadButton("Download photograph", interactive=False, elem_id="one")
                    mask = gr.DownloadButton("Download mask", interactive=False, elem_id="mask")
                    everything = gr.DownloadButton("Download all as zip", interactive=False, elem_id="everything")
        with gr.Column(visible="hidden") as looking:
            slider, words, notes = _results()
            editor = _editor()
            again = gr.Button("Again with this mask", elem_id="again")

        shown = [looking, slider, words, notes, editor, one, mask]
        results = {"outputs": [session, status, listing, everything, looking], "concurrency_id": "network"}
        results["show_progress_on"] = [status, listing]  # else the view is covered too
        for button, run, inputs in (
            (start, run_with(remover, root), [uploads, sensitivity, session]),
            (again, run_again_with(remover), [session, listing, editor]),
        ):
            button.click(run, inputs, **results).success(show, [session, listing], shown, show_progress="hidden")
        listing.input(show, [session, listing], shown, show_progress="hidden")
    return page


def _sensitivity() -> "gradio.Slider":
    import gradio as gr

    about = "Above 0 more lines of text count as marks, below 0 fewer."
    return gr.Slider(-MOST_SENSITIVITY, MOST_SENSITIVITY, 0, step=0.5, label="Sensitivity", info=about)


def _results() -> tuple[Any, ...]:
    """The elements that show one result: before and after, the words found, and notes."""
    import gradio as gr

    with gr.Row():
        with gr.Column(scale=2):
            slider = gr.ImageSlider(
                label="Before and after: drag the line", format="png", buttons=["fullscreen"], elem_id="slider"
            )
        with gr.Column(scale=1):
            words = gr.Dataframe(
                headers=["words found", "what became of them"],
                interactive=False,
                wrap=True,
                buttons=[],
                elem_id="words",
            )
            notes = gr.Markdown(elem_id="notes")
    return slider, words, notes


def _editor() -> "gradio.ImageEditor":
    """The photograph with its mask, and the two brushes."""
    import gradio as gr

    gr.Markdown(BRUSH)
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in (ADD, TAKE)]
    return gr.ImageEditor(
        label="Mask",
        height=600,
        type="numpy",
        format="png",
        sources=(),
        transforms=(),
        layers=False,
        buttons=[],
        brush=gr.Brush(default_size=24, colors=colours, default_color=colours[0], color_mode="fixed"),
        elem_id="editor",
    )


def run_with(remover: Remover, root: Path) -> Callable:
    """The function behind the button "Remove marks": it gives the outputs after each photograph."""
    import gradio as gr

    def run(
        uploads: list[str] | None, sensitivity: float, before: Session | None, progress: gr.Progress = gr.Progress()
    ) -> Iterator[tuple[Any, ...]]:
        if not uploads:
            raise gr.Error(READY.replace("*", ""), print_exception=False)
        end_session(before)
        session = new_session(uploads, root)
        many, off = len(session.items), gr.DownloadButton(interactive=False)
        yield session, f"0 of {many} done ...", listed(session, value=None), off, gr.Column(visible="hidden")
        remover.tell = telling(progress)
        for done in restore(session, remover, sensitivity):
            yield session, f"{done} of {many} done ...", listed(session), off, gr.skip()
        yield finished(session, next((i for i, item in enumerate(session.items) if item.done), 0))

    return run


def run_again_with(remover: Remover) -> Callable:
    """The function behind the button "Again with this mask"."""
    import gradio as gr

    def run_again(
        session: Session | None,
        index: int | None,
        drawn: dict[str, Any] | None,
        progress: gr.Progress = gr.Progress(),
    ) -> tuple[Any, ...]:
        if session is None or index is None or drawn is None:
            raise gr.Error("Choose a photograph from the results first.", print_exception=False)
        mask = with_strokes(mask_of(session.items[index]), drawn["layers"])
        remover.tell = telling(progress)
        restore_again(session, index, mask, remover)
        return finished(session, index)

    return run_again


def telling(progress: Callable) -> Callable[[str], None]:
    """A function of a step of the remover that shows it, and how many steps of the photograph are done, by Gradio."""

    def tell(stage: str) -> None:
        progress((STAGES.index(stage), len(STAGES)), desc=stage, unit="steps")

    return tell


def listed(session: Session, **changes: Any) -> Any:
    """The list of results, one line each; a change of `value` chooses one."""
    import gradio as gr

    lines = [(line_of(item), index) for index, item in enumerate(session.items)]
    return gr.Radio(choices=lines, visible=True, **changes)


def finished(session: Session, chosen: int) -> tuple[Any, ...]:
    """The outputs after a run: session, counts, list of results, zip, and the view, which `show` sets."""
    import gradio as gr

    statuses = [item.outcome.status for item in session.items if item.outcome is not None]
    named = (("restored", "restored"), ("unmarked", "unchanged"), ("failed", "failed"))
    counts = ", ".join(f"{statuses.count(status)} {name}" for status, name in named)
    archive = zipped(session)
    button = gr.DownloadButton(value=archive, interactive=archive is not None)
    return session, f"Done: {counts}.", listed(session, value=chosen), button, gr.skip()


def show(session: Session | None, index: int | None) -> tuple[Any, ...]:
    """The outputs for one result: visibility, before and after, words, notes, editor, and the two downloads."""
    import gradio as gr

    item = session.items[index] if session is not None and index is not None else None
    if item is None or item.outcome is None or not item.done:
        off = gr.DownloadButton(value=None, interactive=False)
        return gr.Column(visible="hidden"), None, None, "", None, off, off
    before, after, tinted = views(item)
    words = words_of(item)
    notes = [f"- {note}" for note in item.outcome.notes]
    if not words and item.job.mask_in is None:  # inside a given mask no words are sought
        notes.insert(0, "- no words found")
    if item.outcome.pages > 1:
        notes.insert(0, f"- page 1 of {item.outcome.pages} is shown; the others are restored too, and in the download")
    return (
        gr.Column(visible=True),
        (before, after),
        gr.Dataframe(value=words, visible=bool(words)),
        "\n".join(notes),
        {"background": tinted, "layers": [], "composite": None},
        gr.DownloadButton(value=item.job.output, interactive=True),
        gr.DownloadButton(value=item.job.mask_out, interactive=True),
    )


class OnlyFromHere:
    """Adds headers to every answer: the browser loads nothing from elsewhere, and names no address to others."""

    def __init__(self, app: Callable):
        self.app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        async def send_with_policy(message: dict) -> None:
            if message["type"] == "http.response.start":
                own = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]
                message = message | {"headers": [*message["headers"], *own]}
            await send(message)

        await self.app(scope, receive, send_with_policy)


def serve(remover: Remover, port: int | None, browser: bool, started: Callable[[str], None]) -> None:
    """Serve the page on this computer alone until an interruption; all temporary files are deleted at the end.

    Those of a page that was killed are deleted at the next start.

    Args:
        remover: restores the photographs.
        port: None: the first free one from 7860 on.
        browser: opens the page in the browser.
        started: called with the page's address once it can be opened.

    Raises:
        OSError: the port is taken.
    """
    if port is not None:
        _check_free(port)
    with temporary_folder() as folder:
        # A photograph that is being written at an interruption may create its folder anew; at the exit all are written.
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        _keep_to_ourselves(folder)
        page = build_page(remover, folder)
        try:
            _launch(page, port, browser)
            started(page.local_url)
            while page.is_running:
                time.sleep(0.5)
        finally:
            page.close(verbose=False)


def _check_free(port: int) -> None:
    """Raise `OSError` of one line if the port cannot be listened on."""
    with socket.socket() as attempt:
        if sys.platform != "win32":  # there it would allow a port that another program listens on
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((HOST, port))
        except OSError as error:
            raise OSError(f"port {port} cannot be used ({error.strerror}); name another with --port") from None


def _keep_to_ourselves(folder: Path) -> None:
    """Settings that Gradio reads from the environment: no analytics, no proxy to ourselves, uploads in `folder`."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), HOST)))


def _theme() -> "gradio.Theme":
    """Fonts of the system alone, and notes that are dark enough to read."""
    import gradio as gr

    theme = gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    return theme.set(block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300")


def _launch(page: "gradio.Blocks", port: int | None, browser: bool) -> None:
    """Start the server in a thread of its own."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    own = [Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"]), Middleware(OnlyFromHere)]
    page.launch(
        server_name=HOST,
        server_port=port,
        inbrowser=browser,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        show_error=True,
        max_file_size=MOST_UPLOAD,
        app_kwargs={"middleware": own},
        footer_links=[],
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=_theme(),
        css=CSS,
    )
