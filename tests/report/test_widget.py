"""The notebook's upload box, without a browser: what it writes, shows and offers for download."""

import base64
import re
from datetime import UTC, datetime

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from PIL import Image
from planted import marked, planted

from wmremoval.report import widget
from wmremoval.report.widget import download_link, removal_box


@pytest.fixture(autouse=True, scope="module")
def shell():
    """`display` shows nothing to anyone without a shell."""
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


@pytest.fixture
def box(tmp_path):
    """(box, its folder, what it showed at first); the sample lies in the folder, as in the notebook."""
    folder = tmp_path / "removed"
    folder.mkdir()
    Image.fromarray(marked(80, 160)[0]).save(folder / "sample.png")
    with capture_output() as first:
        made = removal_box(planted(), folder, folder / "sample.png")
    return made, folder, first


def parts(made):
    """The upload button, and the link's widget."""
    return made.children[0], made.children[-1]


def upload(made, name: str, content: bytes):
    """What a browser does: the button's value changes. Gives what was printed and shown."""
    button, _ = parts(made)
    given = {
        "name": name,
        "type": "",
        "size": len(content),
        "content": memoryview(content),
        "last_modified": datetime.now(UTC),
    }
    with capture_output() as said:
        button.value = (given,)
    return said


@pytest.fixture(scope="module")
def png(tmp_path_factory):
    path = tmp_path_factory.mktemp("png") / "photo.png"
    Image.fromarray(marked(90, 170)[0]).save(path)
    return path.read_bytes()


def files(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_sample_is_shown_before_anything_is_chosen_and_stays_as_it_is(box):
    _, folder, first = box
    assert "sample.png: mark on" in first.stdout and not first.stderr
    assert any("Download sample_restored.png" in str(shown.data.get("text/html")) for shown in first.outputs)
    assert "Figure" in first.outputs[0].data["text/plain"]
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "sample.png")), marked(80, 160)[0])
    assert files(folder) == {"sample.png", "sample_restored.png", "sample_restored_mask.png"}


def test_an_upload_leaves_the_restored_file_its_mask_and_a_link(box, png):
    made, folder, _ = box
    said = upload(made, "photo.png", png)
    assert "photo.png: mark on" in said.stdout
    restored, mask = (np.asarray(Image.open(folder / name)) for name in ("photo.png", "photo_mask.png"))
    watermarked, clean, _ = marked(90, 170)
    assert restored.shape == clean.shape and mask.shape == clean.shape[:2]
    assert abs(restored.astype(int) - clean).mean() < abs(watermarked.astype(int) - clean).mean() / 4
    np.testing.assert_array_equal(restored[mask == 0], watermarked[mask == 0])
    assert (folder / "uploads" / "photo.png").read_bytes() == png
    assert parts(made)[1].value == download_link(folder / "photo.png")


def test_the_same_file_can_be_uploaded_again(box, png):
    made, folder, _ = box
    upload(made, "photo.png", png)
    (folder / "photo.png").unlink()
    button, _ = parts(made)
    assert button.value == () and not button.disabled and button.description == "Choose a photograph"
    upload(made, "photo.png", png)
    assert (folder / "photo.png").exists()


@pytest.mark.parametrize("name, content", [("bad.png", b"no image"), ("empty.jpg", b""), ("..", b"x"),
                                           ("n" * 300 + ".png", None)])  # fmt: skip
def test_a_bad_file_gives_one_line_and_takes_the_old_link_away(box, png, name, content):
    made, folder, _ = box
    upload(made, "photo.png", png)
    before = files(folder)
    said = upload(made, name, png if content is None else content)
    line = said.stdout.split("\r")[-1]  # what clears a terminal comes before
    assert line.count("\n") == 1 and line.startswith(name) and not said.stderr and not said.outputs
    assert parts(made)[1].value == "" and not parts(made)[0].disabled
    assert files(folder) - before <= {f"uploads/{name}"}


@pytest.mark.parametrize(
    "name", ["../../out.png", "/out.png", "..\\..\\out.png", "C:\\pictures\\out.png", "a/b/out.png"]
)
def test_a_name_with_folders_stays_in_the_folder(box, png, name):
    made, folder, _ = box
    upload(made, name, png)
    assert {"out.png", "out_mask.png", "uploads/out.png"} <= files(folder)
    assert files(folder.parent) == {f"removed/{inside}" for inside in files(folder)}


def test_the_link_holds_the_files_very_bytes(tmp_path):
    path = tmp_path / 'my "best" <photo> & more.jpg'
    path.write_bytes(bytes(range(256)) * 5)
    link = download_link(path)
    assert base64.b64decode(re.search(r'base64,([^"]*)"', link)[1]) == path.read_bytes()
    assert 'download="my &quot;best&quot; &lt;photo&gt; &amp; more.jpg"' in link and "<photo>" not in link


def test_a_file_too_large_for_the_page_is_named_with_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(widget, "LINK_MOST", 10)
    path = tmp_path / "large.png"
    path.write_bytes(b"12345678901")
    link = download_link(path)
    assert "large.png" in link and str(tmp_path) in link and "base64" not in link
