"""The notebook: its headings, its manners, and a run from top to bottom with tiny settings."""

import ast
import base64
import copy
import io
import json
import re
import warnings
from dataclasses import fields
from pathlib import Path

import nbformat
import papermill
import pytest
from PIL import Image
from skimage import data

from wmremoval.__main__ import main
from wmremoval.config import TrainConfig
from wmremoval.report.executed import MOST_BYTES, WIDGET, publish_notebook, source_of
from wmremoval.report.pictures import PICTURES

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "watermark_removal.ipynb"
EXECUTED = ROOT / "outputs" / "executed" / NOTEBOOK.name
# The document's Notebook Index, in its order: heading and anchor.
INDEX = [
    ("Libraries & Imports", "libraries--imports"),
    ("Libraries", "libraries"),
    ("Imports", "imports"),
    ("CUDA", "icuda"),
    ("Check GPU Availability for CUDA", "check-gpu-availability-for-cuda"),
    ("CUDA allocation limiting ~64mb", "cuda-allocation-limiting-64mb"),
    ("Seed", "seed"),
    ("Dataset Description", "datasetinfo"),
    ("CNN Model", "cnn-model"),
    ("Model Architecture", "model-arch"),
    ("MixedLoss Loss Function", "loss-func"),
    ("Total Parameters", "tot-param"),
    ("Data Generation (Self-Supervised)", "data-gen-ss"),
    ("DataSet Class", "data-class"),
    ("Hyperparameters", "hyperparameters"),
    ("Batch Size, Epochs, Learning Rate, Weight Decay", "batch-epoch-lr-weightdecay-steps"),
    ("Transform", "transform"),
    ("Pathing", "pathing"),
    ("Data Loader", "data-loaders"),
    ("Criterion, Optimizer, & Scaler for AMP", "crit-opt-scaler-amp"),
    ("Training CNN Model", "training-cnn-model"),
    ("Save Summary for Regression Task Report JSON", "save-sum-reg-report"),
    ("Log Training History", "log-training-history"),
    ("Create ChangeLog", "create-changelog"),
    ("Create ChangeLog & Config", "create-changelog--config"),
    ("Save Model Weights or Save Model of Training", "save-model-weights-or-save-model-of-training"),
    ("Test Accuracy of CNN Training", "test-accuracy-of-cnn-training"),
    ("Visualizations & Metrics", "vis-metrics"),
    ("Metrics", "metrics"),
    ("Summary", "summary"),
    ("Evaluation Cell (For Restoration CNN)", "evaluate-cell"),
    ("Test Results CSV & JSON", "test-results"),
    ("Visuals", "visuals"),
    ("Residual Histogram", "res-hist"),
    ("Local PSNR/SSIM Maps", "loc-psnrssim"),
    ("Side by side Comparison", "side-comp"),
    ("Watermark Residual", "wm-res"),
    ("Training Progress", "train-prog"),
    ("Watermark Attention", "wm-att"),
    ("Batch Processing", "batch-proc"),
    ("Learning Rate Visual", "learning-rate-visual"),
    ("Train Loss, Peak Signal-to-Noise Ratio, Structural Similarity Index", "ind-plots"),
    ("Residual Error", "res-error"),
    ("Multi-Layer Activation", "mult-act"),
    ("Feature Activation Maps (Decoder Focus)", "dec-focus"),
    ("Kernel/Visualizations", "kernelvisualizations"),
    ("Gradient Visualization", "gradient-visualization"),
    ("Literature Cited", "literature-cited"),
    ("Environment", "environment"),
    ("Recommended Resources", "recommended-resources"),
    ("Permission", "permission"),
]
# Our own sections, each with the heading that it follows.
OURS = {
    "How a mark is found and taken off": "Imports",
    "Remove a watermark from your own photograph": "Permission",
    "One mark on many photographs": "Remove a watermark from your own photograph",
    "Compare runs": "One mark on many photographs",
}


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook run on twelve photographs of 96 px, for one epoch, in a root folder of its own."""
    root = tmp_path_factory.mktemp("root")
    photos = root / "photos"
    photos.mkdir()
    scene = data.astronaut()
    for i in range(12):
        y, x = 130 * (i // 4), 130 * (i % 4)
        Image.fromarray(scene[y : y + 112, x : x + 112]).save(photos / f"tile_{i:02d}.jpg", quality=95)
    (photos / "broken.png").write_bytes(b"no image")
    settings = {
        "photos_dir": str(photos),
        "image_size": 48,
        "epochs": 1,
        "batch_size": 4,
        "extra": {"warmup_epochs": 1, "alpha": 0.3},
        "scratch_seconds": 1,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WMREMOVAL_ROOT", str(root))
        result = papermill.execute_notebook(NOTEBOOK, root / "executed.ipynb", settings, progress_bar=False)
    return root, result


def headings(notebook) -> list[tuple[str, str]]:
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found += re.findall(r'<a id="([^"]+)"></a>\n#+ (.+)', cell.source)
    return [(title.strip(), anchor) for anchor, title in found]


def printed(notebook) -> str:
    outputs = (output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
    return "".join(output.text for output in outputs if output.output_type == "stream")


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_headings_follow_the_documents_index_and_ours_stand_where_they_belong(notebook):
    titles = [title for title, _ in headings(notebook)]
    assert [heading for heading in headings(notebook) if heading[0] not in OURS] == INDEX
    assert {title: titles[titles.index(title) - 1] for title in OURS} == OURS


def test_every_link_of_the_table_of_contents_has_its_anchor(notebook):
    anchors = {anchor for _, anchor in headings(notebook)}
    links = re.findall(r"\]\(#([^)]+)\)", "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown"))
    assert len(links) >= len(INDEX) and set(links) <= anchors


def parsed(cell) -> ast.Module:
    return ast.parse(cell.source.replace("%matplotlib inline\n", ""))


def test_every_import_stands_once_and_at_the_top(notebook):
    kinds = (ast.Import, ast.ImportFrom)
    importing = [
        i for i, cell in enumerate(code_cells(notebook)) if any(isinstance(n, kinds) for n in ast.walk(parsed(cell)))
    ]
    assert importing == [0, 1]
    nodes = [node for i in importing for node in parsed(code_cells(notebook)[i]).body if isinstance(node, kinds)]
    names = [alias.asname or alias.name for node in nodes for alias in node.names]
    assert len(names) == len(set(names))
    used = {node.id for cell in code_cells(notebook) for node in ast.walk(parsed(cell)) if isinstance(node, ast.Name)}
    assert set(names) <= used, "nothing is imported that is not used"


def test_every_setting_is_written_once(notebook):
    """`settings_in` would also find a variable of another cell that has the name of a setting."""
    settings = {field.name for field in fields(TrainConfig)}
    for cell in code_cells(notebook):
        stored = {n.id for n in ast.walk(parsed(cell)) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        assert "parameters" in cell.metadata.get("tags", []) or not stored & settings, cell.source


def test_the_notebook_shows_every_picture_of_the_registry_once(notebook):
    shown = [name for cell in code_cells(notebook) for name in re.findall(r'show\("([^"]+)"\)', cell.source)]
    assert sorted(shown) == sorted(PICTURES)
    published = {path.name for path in (ROOT / "outputs" / "visuals").iterdir()} - {"removed.png"}
    assert published <= PICTURES.keys(), "the document's names, and those that are published"


def test_every_program_opens_it_without_a_warning():
    """JupyterLab 4, VS Code and Notebook 7 warn of an older format, missing or double ids, and an invalid structure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in (NOTEBOOK, EXECUTED):
            raw = json.loads(path.read_text(encoding="utf-8"))
            assert (raw["nbformat"], raw["nbformat_minor"]) == (4, 5)
            assert (
                raw["metadata"]["kernelspec"]["name"] == "python3"
                and raw["metadata"]["language_info"]["name"] == "python"
            )
            nbformat.validate(raw)
            ids = [cell["id"] for cell in raw["cells"]]
            assert len(ids) == len(set(ids))


def test_the_executed_copy_is_of_the_committed_notebook():
    """After a change: run it by papermill, then `wmremoval publish outputs/watermark_removal.ipynb`."""
    ours, copied = (json.loads(path.read_text(encoding="utf-8"))["cells"] for path in (NOTEBOOK, EXECUTED))
    assert [(cell["id"], source_of(cell)) for cell in copied] == [(cell["id"], source_of(cell)) for cell in ours]
    counts = [cell["execution_count"] for cell in copied if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1)), "run once, from top to bottom"
    kinds = {kind for cell in copied for output in cell.get("outputs", []) for kind in output.get("data", {})}
    assert kinds & {"image/png", "image/jpeg"} and WIDGET not in kinds
    assert EXECUTED.stat().st_size <= MOST_BYTES == 3_000_000
    assert "outputs/executed/watermark_removal.ipynb" in (ROOT / "README.md").read_text(encoding="utf-8")[:2500]


def test_code_cells_define_nothing_are_short_and_carry_no_outputs(notebook):
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        assert cell.source.count("\n") < 15, cell.source
        assert cell.outputs == [] and cell.execution_count is None
        kinds = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
        assert not any(isinstance(node, kinds) for node in ast.walk(parsed(cell)))


def test_every_section_of_the_index_has_prose(notebook):
    for cell in notebook.cells:
        match = re.match(r'<a id="([^"]+)"></a>\n#+ [^\n]+\n?(.*)', cell.source, re.S)
        if match and match[1] not in ("libraries--imports", "hyperparameters", "vis-metrics", "metrics"):
            assert len(match[2].strip()) > 40, match[1]


def test_there_is_one_parameters_cell_with_plain_values(notebook):
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    names = {}
    exec(tagged[0].source, names)
    assert names["batch_size"] == 8 and names["epochs"] is None and names["profile"] == "auto"


def test_the_run_leaves_every_report_and_picture(executed):
    root, _ = executed
    (run,) = (root / "outputs" / "runs").iterdir()
    assert (root / "outputs" / "latest.txt").read_text().strip() == run.name
    for name in ("training_summary.json", "training_history.csv", "training_history.json", "CHANGELOG.md", "config.json",
                 "split.json", "test_results.csv", "test_results.json", "wm_best_model.pth", "wm_best_model.safetensors"):  # fmt: skip
        assert (run / name).stat().st_size > 0, name
    assert {path.name for path in (run / "visuals").iterdir()} == set(PICTURES)


def test_values_given_explicitly_beat_the_quick_profile(executed):
    root, result = executed
    (run,) = (root / "outputs" / "runs").iterdir()
    train = json.loads((run / "config.json").read_text())["train"]
    assert (train["epochs"], train["image_size"], train["batch_size"]) == (1, 48, 4)
    assert train["max_photos"] == 80, "the quick profile decides what is not given"
    assert "QUICK profile" in printed(result)


def test_the_reports_agree_with_each_other(executed):
    root, result = executed
    (run,) = (root / "outputs" / "runs").iterdir()
    summary = json.loads((run / "training_summary.json").read_text())
    history = json.loads((run / "training_history.json").read_text())
    split = json.loads((run / "split.json").read_text())
    test = json.loads((run / "test_results.json").read_text())
    assert summary["epochs_run"] == 1 and [row["epoch"] for row in history] == [0, 1], "epoch 0: the shipped weights"
    assert summary["val_psnr_final"] == history[-1]["val_psnr"]
    assert summary["parameters"] == {"total": 5_383_366 + 245, "trainable": 3_647_878 + 245}, "with the mark head"
    assert {part: len(names) for part, names in split.items()} == {"train": 8, "val": 2, "test": 2}
    assert test["images"] == 2
    assert list(summary["photos"]["skipped"]) == ["broken.png"] and summary["photos"]["jpg"] == 12
    assert f"{test['psnr']['mean']:.2f}" in (run / "CHANGELOG.md").read_text()
    assert f"Test PSNR: {test['psnr']['mean']:.2f} dB" in printed(result)


def test_the_notebook_prints_the_documents_parameter_counts(executed):
    text = printed(executed[1])
    assert "Total Parameters: 5383366" in text and "Trainable Parameters: 3647878" in text


def test_no_cell_warns(executed):
    streams = [o for c in executed[1].cells if c.cell_type == "code" for o in c.outputs if o.output_type == "stream"]
    assert not [o.text for o in streams if o.name == "stderr" and "Warning" in o.text]


def test_no_cell_shows_a_repr_raw_json_or_a_dictionary(executed):
    for cell in code_cells(executed[1]):
        for output in cell.outputs:
            if output.output_type == "stream":
                assert not re.search(
                    r"^\s*[{\[(]|[{,] *['\"]\w+['\"]:|<[\w.]+ (object|at)|\w+\((\n|\w+=)", output.text, re.M
                ), output.text
            else:
                assert set(output.data) - {"text/plain"}, f"only a repr: {output.data}"


def test_a_program_that_runs_it_gets_a_line_an_epoch_and_no_bars(executed):
    lines = printed(executed[1]).splitlines()
    (start,) = (i for i, line in enumerate(lines) if line.startswith("Warmup Epoch 1 | Loss:"))
    assert lines[start - 1].startswith("Start: Val Loss=") and lines[start + 1].startswith("Epoch 1: Train Loss=")
    widgets = [o for cell in code_cells(executed[1]) for o in cell.outputs if WIDGET in o.get("data", {})]
    assert len(widgets) == 1, "the upload button"


def test_tables_compare_doing_nothing_the_network_and_the_restored_photographs(executed):
    root, result = executed
    (run,) = (root / "outputs" / "runs").iterdir()
    test = json.loads((run / "test_results.json").read_text())
    rows = [line.split() for line in printed(result).splitlines() if line.startswith("all ")]
    for row, prefix in zip(rows[:3], ("input_", "", "remover_"), strict=True):
        assert f"{test[f'{prefix}psnr']['mean']:.3f}" in row
    assert "Over doing nothing the network alone gains" in printed(result)


def test_an_executed_copy_is_published_only_if_it_is_the_notebooks_and_complete(
    executed, tmp_path, capsys, monkeypatch
):
    root, _ = executed
    with pytest.raises(ValueError, match="was run with other settings"):
        publish_notebook(root / "executed.ipynb", NOTEBOOK, tmp_path / "copy.ipynb")
    whole = json.loads((root / "executed.ipynb").read_text(encoding="utf-8"))
    whole["cells"] = [c for c in whole["cells"] if "injected-parameters" not in c["metadata"].get("tags", [])]
    monkeypatch.setenv("WMREMOVAL_ROOT", str(ROOT))
    given = tmp_path / "given.ipynb"

    def publish(change=None) -> int:
        changed = copy.deepcopy(whole)
        if change is not None:
            without_pictures(changed["cells"])  # a refused notebook needs none, and they take seconds
            change(changed["cells"])
        given.write_text(json.dumps(changed), encoding="utf-8")
        return main(["publish", str(given), "--output", str(tmp_path / "out")])

    def without_pictures(cells):
        for cell in cells:
            for output in cell.get("outputs", []):
                output.get("data", {}).pop("image/png", None)

    def fail(cells):
        cells[-1]["outputs"] = [{"output_type": "error", "ename": "E", "evalue": "", "traceback": []}]

    for change, words in (
        (lambda cells: cells.pop(), "run it again"),
        (lambda cells: cells[3].update(source="# other"), "in cell 4; run it again"),
        (fail, "was not run to its end"),
        (lambda cells: cells[4]["outputs"].append({"output_type": "stream", "name": "stdout", "text": str(ROOT)}), "names the folder"),
        (lambda cells: cells[4]["outputs"].append({"output_type": "stream", "name": "stdout", "text": "x" * MOST_BYTES}), "bytes"),
    ):  # fmt: skip
        assert publish(change) == 1 and words in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    assert publish() == 0
    published = nbformat.read(tmp_path / "out" / "executed" / "watermark_removal.ipynb", as_version=4)
    assert [cell.source for cell in published.cells] == [cell.source for cell in nbformat.read(NOTEBOOK, 4).cells]
    for cell in code_cells(published):
        for output in cell.outputs:
            for kind in ("image/png", "image/jpeg"):
                if kind in output.get("data", {}):
                    assert Image.open(io.BytesIO(base64.b64decode(output.data[kind]))).width <= 960
            assert WIDGET not in output.get("data", {}) and "VBox(" not in str(output)
