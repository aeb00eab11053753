"""The notebook: its headings, its manners, and a run from top to bottom with tiny settings."""

import ast
import json
import re
from pathlib import Path

import nbformat
import papermill
import pytest
from PIL import Image
from skimage import data

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "watermark_removal.ipynb"
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
# The file names of the document's pictures, and ours.
PICTURES = {
    "Heterogeneous_U-Net_CNN_Arch.png",
    "lossfunctiondiagram.png",
    "TrainvallosspsnrProgress.png",
    "TrainLossPSNRSSIMplots.png",
    "learningratescheduler.png",
    "local_psnr_map.png",
    "local_ssim_map.png",
    "residualhistogram.png",
    "sidebysidecomp.png",
    "watermarkresidual.png",
    "watermarkattention.png",
    "batchprocessing.png",
    "reserror.png",
    "multlayeract.png",
    "featactdecodefocus.png",
    "kernels.png",
    "gradients.png",
    "sharedmark.png",
    "lossshares.png",
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


def test_headings_follow_the_documents_index_and_only_ours_come_after_permission(notebook):
    found = headings(notebook)
    assert found[: len(INDEX)] == INDEX
    assert [title for title, _ in found[len(INDEX) :]] == [
        "Remove a watermark from your own photograph",
        "One mark on many photographs",
        "Compare runs",
    ]


def test_every_link_of_the_table_of_contents_has_its_anchor(notebook):
    anchors = {anchor for _, anchor in headings(notebook)}
    links = re.findall(r"\]\(#([^)]+)\)", "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown"))
    assert len(links) >= len(INDEX) and set(links) <= anchors


def test_code_cells_define_nothing_are_short_and_carry_no_outputs(notebook):
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        assert cell.source.count("\n") < 15, cell.source
        assert cell.outputs == [] and cell.execution_count is None
        tree = ast.parse(cell.source.replace("%matplotlib inline\n", ""))
        kinds = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
        assert not any(isinstance(node, kinds) for node in ast.walk(tree))


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
    assert {path.name for path in (run / "visuals").iterdir()} == PICTURES


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
