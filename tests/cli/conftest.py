"""A folder of photographs, and the planted remover behind the command."""

import pytest
from PIL import Image
from planted import marked, planted

from wmremoval.restore import remover


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two marked photographs, one unmarked, one in a sub-folder; and the planted remover behind the command."""
    (tmp_path / "in/sub").mkdir(parents=True)
    for name, shift in (("one.png", 60), ("two words é🙂.png", 75), ("sub/three.png", 50)):
        Image.fromarray(marked(110, 170, origin=(20, shift))[0]).save(tmp_path / "in" / name)
    Image.new("RGB", (120, 90), (200, 100, 0)).save(tmp_path / "in/plain.jpg", quality=91)
    monkeypatch.setattr(remover, "load_remover", lambda *args, **options: planted())
    monkeypatch.chdir(tmp_path)
    return tmp_path
