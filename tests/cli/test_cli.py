"""The command lines, in process: train, evaluate, publish, download, those of the maintainers, and what goes wrong."""

import json
import os
import shutil
import signal
import urllib.error
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from wmremoval.__main__ import main
from wmremoval.bench.__main__ import main as bench
from wmremoval.data.photos import sample_scenes
from wmremoval.report.pictures import NEED_REMOVER, NEED_SCRATCH, PICTURES, RunPictures
from wmremoval.training import loop
from wmremoval.training.checkpoints import load_model
from wmremoval.training.reports import compare_runs
from wmremoval.training.run_folder import read_config, read_run

TINY = [
    "--image-size",
    "32",
    "--batch-size",
    "4",
    "--epochs",
    "2",
    "--warmup-epochs",
    "1",
    "--perceptual-weights",
    "random",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten photographs of 80 px."""
    folder = tmp_path_factory.mktemp("photos")
    scene = data.coffee()
    for i in range(10):
        Image.fromarray(scene[90 * (i // 5) :, 100 * (i % 5) :][:80, :80]).save(folder / f"photo_{i}.png")
    return folder


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A finished run of the train command, and the folder that holds `runs/`."""
    output = tmp_path_factory.mktemp("outputs")
    assert main(["train", "--photos", str(folder), "--output", str(output), *TINY]) == 0
    (run,) = (output / "runs").iterdir()
    return run


@pytest.fixture
def no_pictures(monkeypatch):
    """For runs of which no picture is looked at: drawing them takes longer than all the rest."""
    monkeypatch.setattr(RunPictures, "save_all", lambda pictures: [])


def test_train_leaves_reports_pictures_and_a_model_that_loads(run):
    assert {path.name for path in (run / "visuals").iterdir()} == PICTURES.keys() - {*NEED_REMOVER, *NEED_SCRATCH}
    summary = json.loads((run / "training_summary.json").read_text())
    required = {"best_loss", "epochs_run", "train_loss_final", "val_loss_final", "psnr_final", "val_psnr_final", "ssim_final",
                "val_ssim_final", "training_time_min", "learning_rate_end", "optimizer", "criterion"}  # fmt: skip
    assert required <= set(summary)
    assert summary["epochs_run"] == 2 and summary["perceptual_weights"] == "random"
    net, saved = load_model(run)
    assert saved["config"]["image_size"] == 32 and not net.training
    assert not (run / "training_state.pt").exists()


CLOCKED = ["--minutes", "5", "--validate-minutes", "1", "--validation-photos", "1", "--ema-half-life", "2"]


def test_a_run_by_the_clock_ends_when_asked_to_and_cools_down_when_resumed(folder, tmp_path, monkeypatch, capsys):
    step = loop.Training.step

    def step_and_ask(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        return step(*args)

    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(RunPictures, "save_all", lambda pictures: pytest.fail("pictures were drawn"))
    with monkeypatch.context() as patch:
        patch.setattr(loop.Training, "step", step_and_ask)
        assert main(["train", "--photos", str(folder), "--output", str(tmp_path), *TINY, *CLOCKED]) == 130
    (broken,) = (tmp_path / "runs").iterdir()
    assert (broken / "training_state.pt").exists() and not (broken / "test_results.json").exists()
    again = ["train", "--resume", str(broken), "--cooldown-now", "--no-score", "--no-pictures"]
    assert main(again) == 0 and signal.getsignal(signal.SIGTERM) == handler
    last = json.loads((broken / "training_history.json").read_text())[-1]
    assert last["share"] == 1 and last["lr"] == 0 and "val_text_iou" in last and "val_logo_iou" not in last
    assert not (broken / "training_state.pt").exists() and not (broken / "test_results.json").exists()


def test_options_reach_the_settings(run):
    config = read_config(run)["train"]
    assert (config.image_size, config.batch_size, config.epochs, config.warmup_epochs) == (32, 4, 2, 1)
    assert config.composite and config.target == "reference"


def test_evaluate_gives_the_same_scores_again(run, capsys):
    before = json.loads((run / "test_results.json").read_text())
    assert main(["evaluate", str(run)]) == 0
    after = json.loads((run / "test_results.json").read_text())
    assert after["psnr"]["mean"] == pytest.approx(before["psnr"]["mean"], abs=1e-4)
    assert f"Test PSNR: {after['psnr']['mean']:.2f} dB" in capsys.readouterr().out


@pytest.mark.usefixtures("no_pictures")
def test_an_interrupted_run_is_resumed_to_the_unbroken_runs_result(folder, run, tmp_path, monkeypatch, capsys):
    one_pass = loop._one_pass

    def interrupt(books, loaders, part):
        if part.label == "Epoch 2":
            raise KeyboardInterrupt
        one_pass(books, loaders, part)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_one_pass", interrupt)
        assert main(["train", "--photos", str(folder), "--output", str(tmp_path), *TINY]) == 130
    (broken,) = (tmp_path / "runs").iterdir()
    assert json.loads((broken / "training_summary.json").read_text())["stopped"] == "interrupted"
    assert main(["train", "--resume", str(broken), "--output", str(tmp_path)]) == 0
    whole, mended = (json.loads((r / "training_history.json").read_text()) for r in (run, broken))
    assert [row["val_loss"] for row in mended] == [row["val_loss"] for row in whole]
    assert all(
        torch.equal(a, b) for a, b in zip(*(load_model(r)[0].state_dict().values() for r in (run, broken)), strict=True)
    )


def interrupted_run(monkeypatch, output, argv):
    """The folder of a run that was stopped in its first main epoch."""

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_end_row", interrupt)
        assert main(["train", "--output", str(output), *argv]) == 130
    (broken,) = (output / "runs").iterdir()
    return broken


@pytest.mark.usefixtures("no_pictures")
def test_photographs_added_meanwhile_do_not_enter_a_resumed_run(folder, run, tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    shutil.copytree(folder, photos)
    broken = interrupted_run(monkeypatch, tmp_path, ["--photos", str(photos), *TINY])
    split = (broken / "split.json").read_text()
    Image.fromarray(data.chelsea()[:90, :90]).save(photos / "new.png")
    assert main(["train", "--resume", str(broken), "--output", str(tmp_path)]) == 0
    assert (broken / "split.json").read_text() == split
    whole, mended = (json.loads((r / "training_history.json").read_text()) for r in (run, broken))
    assert [row["val_loss"] for row in mended] == [row["val_loss"] for row in whole]


@pytest.mark.usefixtures("no_pictures")
def test_more_photographs_are_trained_on_listed_and_there_again_when_a_run_is_resumed(
    folder, run, tmp_path, monkeypatch, capsys
):
    more = tmp_path / "more"
    more.mkdir()
    for i in range(4):
        Image.fromarray(np.ascontiguousarray(data.chelsea()[50 * i : 50 * i + 90, :90])).save(more / f"more_{i}.png")
    broken = interrupted_run(monkeypatch, tmp_path, ["--photos", str(folder), "--more-photos", str(more), *TINY])
    about, split = (json.loads((broken / f"{name}.json").read_text()) for name in ("config", "split"))
    assert split == json.loads((run / "split.json").read_text()) | {"more": [f"more_{i}.png" for i in range(4)]}
    assert about["photos"]["more"]["usable"] == 4 and about["sources"]["more_photos"] == str(more)
    assert about["steps_per_epoch"] > json.loads((run / "config.json").read_text())["steps_per_epoch"]
    assert main(["train", "--resume", str(broken), "--output", str(tmp_path)]) == 0
    assert json.loads((broken / "test_results.json").read_text())["images"] == len(split["test"])
    shutil.copy(folder / split["test"][0], more)
    capsys.readouterr()
    assert main(["train", "--photos", str(folder), "--more-photos", str(more), "--output", str(tmp_path), *TINY]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert split["test"][0] in line and "training may not see them" in line


@pytest.mark.usefixtures("no_pictures")
def test_a_photograph_that_is_gone_stops_a_resumed_run(folder, tmp_path, monkeypatch, capsys):
    photos = tmp_path / "photos"
    shutil.copytree(folder, photos)
    broken = interrupted_run(monkeypatch, tmp_path, ["--photos", str(photos), *TINY])
    (photos / "photo_3.png").unlink()
    capsys.readouterr()
    assert main(["train", "--resume", str(broken), "--output", str(tmp_path)]) == 1
    assert "photo_3.png" in capsys.readouterr().err


@pytest.mark.usefixtures("no_pictures")
def test_a_run_on_the_sample_photographs_is_resumed_on_them(tmp_path, monkeypatch):
    monkeypatch.setenv("WMREMOVAL_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    broken = interrupted_run(monkeypatch, tmp_path / "outputs", [*TINY, "--epochs", "1"])
    split = json.loads((broken / "split.json").read_text())
    assert len(split["test"]) > 0 and all(name.startswith(("astronaut", "chelsea")) for name in split["test"])
    assert main(["train", "--resume", str(broken), "--output", str(tmp_path / "outputs")]) == 0
    assert json.loads((broken / "split.json").read_text()) == split
    assert json.loads((broken / "test_results.json").read_text())["images"] == len(split["test"])


def test_warnings_are_shown_as_before_once_a_command_has_ended(capsys):
    before = warnings.showwarning
    bench(["speed", "samples", "--photos", "nowhere_at_all"])
    assert warnings.showwarning is before


@pytest.mark.usefixtures("no_pictures")
def test_the_report_says_whether_the_test_had_logos_of_its_own(folder, tmp_path):
    few, many = tmp_path / "few", tmp_path / "many"
    for logos, brands in ((few, 1), (many, 40)):
        logos.mkdir()
        for i in range(brands):
            logo = Image.new("RGBA", (32, 32))
            logo.paste((200, 30, i, 255), (8, 8, 24, 24))
            logo.save(logos / f"source_brand{i}.png")
        argv = [
            "train",
            "--photos",
            str(folder),
            "--output",
            str(tmp_path),
            *TINY,
            "--epochs",
            "1",
            "--name",
            logos.name,
        ]
        assert main([*argv, "--logos", str(logos)]) == 0
    drawn = {run.name.split("_")[-1]: read_config(run)["logos"] for run in (tmp_path / "runs").iterdir()}
    assert drawn["few"] == {"train": 1, "test": 1, "unseen": False}
    assert drawn["many"]["unseen"] and drawn["many"]["train"] + drawn["many"]["test"] == 40


@pytest.mark.usefixtures("no_pictures")
def test_a_second_run_stands_beside_the_first_and_names_what_changed(folder, tmp_path):
    for epochs in ("1", "2"):
        small = [*TINY, "--epochs", epochs, "--name", f"e{epochs}"]
        assert main(["train", "--photos", str(folder), "--output", str(tmp_path), *small]) == 0
    rows = compare_runs(tmp_path)
    assert [row["epochs"] for row in rows] == [1, 2]
    newest = tmp_path / "runs" / (tmp_path / "latest.txt").read_text().strip()
    log = (newest / "CHANGELOG.md").read_text()
    assert log.count("\n## ") == 2 and "epochs 1 to 2" in log


def test_publish_copies_reports_without_folders_and_redraws_pictures(run, folder, tmp_path):
    assert main(["publish", str(run), "--output", str(tmp_path)]) == 0
    reports = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {path.name for path in reports} == {
        "training_summary.json", "training_history.csv", "training_history.json", "test_results.csv", "test_results.json",
        "config.json", "split.json", "CHANGELOG.md",
    }  # fmt: skip
    for path in reports:
        assert str(folder) not in path.read_text() and str(run.parent) not in path.read_text(), path.name
    own, published = ((place / "visuals" / "sidebysidecomp.png").read_bytes() for place in (run, tmp_path))
    assert own != published, "pictures of the run's own photographs must not be published"
    assert {path.name for path in (tmp_path / "visuals").iterdir()} == PICTURES.keys() - {*NEED_REMOVER, *NEED_SCRATCH}


def test_a_run_that_was_never_tested_is_not_published(run, tmp_path, capsys):
    results = run / "test_results.json"
    kept = results.read_text()
    results.unlink()
    try:
        assert main(["publish", str(run), "--output", str(tmp_path)]) == 1
    finally:
        results.write_text(kept)
    assert "test_results.json" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_pictures")
def test_weights_that_know_the_test_photographs_are_not_begun_from(run, folder, tmp_path, capsys):
    argv = ["train", "--photos", str(folder), "--output", str(tmp_path), *TINY, "--epochs", "1"]
    for start in (run, run / "wm_best_model.pth"):
        assert main([*argv, "--start", str(start), "--seed", "1"]) == 1
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert run.name in error and "use its seed, 0" in error
    assert not (tmp_path / "runs").exists()
    assert main([*argv, "--start", str(run)]) == 0  # the same split
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere)  # other photographs that happen to have the same names
    argv[2] = str(elsewhere)
    assert main([*argv, "--start", str(run), "--seed", "1"]) == 0


def test_an_average_is_the_mean_of_the_networks_and_a_run_like_any(run, folder, tmp_path, capsys):
    other = tmp_path / "runs" / "other"
    shutil.copytree(run, other)
    saved = torch.load(other / "wm_best_model.pth", weights_only=True)
    saved["model"] = {name: 3 * x if x.is_floating_point() else x + 5 for name, x in saved["model"].items()}
    torch.save(saved, other / "wm_best_model.pth")
    assert bench(["average", str(run), str(other), "--output", str(tmp_path), "--name", "both"]) == 0
    both = next((tmp_path / "runs").glob("*_both"))
    first, mean = (load_model(each)[0].state_dict() for each in (run, both))
    for name, x in first.items():
        torch.testing.assert_close(mean[name], 2 * x if x.is_floating_point() else x)
    bare = load_model(both / "wm_best_model.safetensors")[0].state_dict()
    assert all(torch.equal(bare[name], x) for name, x in mean.items())
    assert json.loads((both / "config.json").read_text())["averaged"] == [run.name, "other"]
    assert main(["evaluate", str(both), "--device", "cpu"]) == 0 and (both / "test_results.json").exists()

    (other / "split.json").write_text('{"train": [], "val": [], "test": []}')
    direct = tmp_path / "runs" / "direct"
    shutil.copytree(run, direct)
    saved["config"]["composite"] = False
    torch.save(saved, direct / "wm_best_model.pth")
    before = set((tmp_path / "runs").iterdir())
    for runs, reason in (([run], "two runs"), ([run, other], "another split"), ([run, direct], "another form")):
        capsys.readouterr()
        assert bench(["average", *map(str, runs), "--output", str(tmp_path)]) == 1
        assert reason in capsys.readouterr().err
    assert set((tmp_path / "runs").iterdir()) == before


def test_read_run_rebuilds_network_and_history(run):
    rebuilt, result, about = read_run(run, torch.device("cpu"))
    net, _ = load_model(run)
    image = torch.rand(1, 3, 40, 40)
    assert torch.equal(rebuilt.net.eval()(image)[0], net(image)[0])
    assert len(result.history) == 2 and about["photos"]["used"] == 10


@pytest.mark.parametrize(
    ("argv", "names"),
    [
        (["train", "--photos", "nowhere_at_all"], "nowhere_at_all"),
        (["train", "--epochs", "0"], "epochs"),
        (["train", "--target", "sideways"], "target"),
        (["train", "--resume", "no_such_run"], "no_such_run"),
        (["train", "--hours", "0"], "hours"),
        (["train", "--grow"], "grow needs hours"),
        (["train", "--cooldown-now"], "--resume"),
        (["evaluate", "no_such_run"], "no_such_run"),
        (["suite", "--photos", "p", "--without", "sieve"], "sieve"),
        (["suite", "--photos", "p", "--bare", "--without", "mirror"], "--without"),
        (["document", "--photos", "p", "--limit", "0"], "limit must be"),
        (["publish", "no_such_run"], "no_such_run"),
        (["download", "--dataset", "nonsense"], "nonsense"),
        (["speed", "samples", "--photos", "nowhere_at_all"], "nowhere_at_all"),
    ],
)
def test_wrong_input_gives_one_line_that_names_it_and_status_1(argv, names, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("WMREMOVAL_ROOT", str(tmp_path))
    run = bench if argv[0] in ("suite", "document", "speed") else main
    assert run(argv) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and names in error and "\n" not in error


def test_wrong_usage_is_status_2():
    with pytest.raises(SystemExit) as stop:
        main(["trian"])
    assert stop.value.code == 2


def test_download_without_network_is_one_line_and_status_1(tmp_path, monkeypatch, capsys):
    from torchvision import datasets

    def offline(*args, **options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("WMREMOVAL_ROOT", str(tmp_path))
    monkeypatch.setattr(datasets, "Imagenette", offline)
    assert main(["download", "--dataset", "imagenette", "--photos", str(tmp_path / "photos")]) == 1
    error = capsys.readouterr().err.strip()
    assert "could not download imagenette" in error and "\n" not in error


def test_benchmark_prints_and_writes_its_table(folder, tmp_path, capsys):
    report = tmp_path / "speed.json"
    assert (
        bench(
            [
                "speed",
                "samples",
                "--photos",
                str(folder),
                "--image-size",
                "64",
                "--samples",
                "5",
                "--report",
                str(report),
            ]
        )
        == 0
    )
    numbers = json.loads(report.read_text())
    assert numbers["photographs"] == 5 and numbers["triplet, mean ms"] > numbers["decoding alone, mean ms"] > 0
    assert "triplets a second" in capsys.readouterr().out


def test_the_sample_scenes_are_the_natural_colour_photographs():
    scenes = sample_scenes()
    assert set(scenes) == {"astronaut", "chelsea", "coffee", "hubble", "motorcycle_left", "motorcycle_right", "rocket"}
    assert all(scene.dtype == np.uint8 and scene.shape[2] == 3 for scene in scenes.values())
