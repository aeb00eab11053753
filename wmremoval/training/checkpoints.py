"""Checkpoints: the best model, which alone rebuilds the network; weights to begin from; the state from which an unfinished run resumes."""

from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from wmremoval.files import atomic_path, first_line
from wmremoval.model import HeterogeneousUNet

BEST_MODEL = "wm_best_model.pth"
BEST_WEIGHTS = "wm_best_model.safetensors"
SHIPPED_WEIGHTS = Path(__file__).parents[1] / "weights" / "wmremoval.safetensors"  # those that come with the package
STATE = "training_state.pt"  # only while a run is unfinished


def save_best(training, result) -> None:
    """Write the network of a `Training` as it is now: `wm_best_model.pth` with its config, and bare safetensors."""
    weights = {name: x.detach().cpu().contiguous() for name, x in training.kept.state_dict().items()}
    about = {
        "epoch": result.best_epoch,
        "val_loss": result.best_loss,
        "perceptual_weights": training.criterion.perceptual_source,
    }
    with atomic_path(result.folder / BEST_MODEL) as path:
        torch.save({"config": training.config.to_dict(), "model": weights, **about}, path)
    with atomic_path(result.folder / BEST_WEIGHTS) as path:
        save_file(weights, path, metadata=form_of(training.config.to_dict()))


def form_of(config: dict) -> dict[str, str]:
    """What bare weights must say so that their network can be rebuilt, as the metadata of a safetensors file."""
    return {name: str(config[name]).lower() for name in ("composite", "decompose", "image_size")}


def load_weights(net: nn.Module, path: str | Path) -> dict:
    """Load a `wm_best_model.pth` into a network and give the rest of what the file says.

    Raises:
        ValueError: missing, damaged, or of another network; the message names the file.
    """
    return _fill(net, read_checkpoint(Path(path), "cpu"), Path(path))


def _fill(net: nn.Module, saved: dict, path: Path) -> dict:
    try:
        net.load_state_dict(saved.pop("model"))
        saved["config"]["composite"]
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = first_line(error)
        raise ValueError(f"{path} is not a checkpoint of this network ({reason})") from None
    return saved


def weights_path(start: str | Path) -> Path:
    """The file behind a name of weights: "shipped", a run's folder, its `.pth` or a `.safetensors`."""
    if start == "shipped":
        return SHIPPED_WEIGHTS
    path = Path(start).expanduser()
    return path / BEST_MODEL if path.is_dir() else path


def load_start(net: nn.Module, start: str | Path) -> None:
    """Begin from trained weights: "shipped", a run's folder, its `.pth` or a `.safetensors` of this network.

    A network with a mark head may begin from weights without one; its head then starts as if untrained. One without
    may begin from weights that have it.

    Raises:
        ValueError: missing, damaged, or of another network; the message names the file.
    """
    path = weights_path(start)
    try:
        weights = load_file(path) if path.suffix == ".safetensors" else read_checkpoint(path, "cpu")["model"]
        missing, unexpected = net.load_state_dict(weights, strict=False)
    except (KeyError, TypeError, AttributeError, RuntimeError, OSError, SafetensorError) as error:
        reason = first_line(error)
        raise ValueError(f"{path} holds no weights of this network ({reason})") from None
    wrong = [name for name in [*missing, *unexpected] if not name.startswith("mark.")]
    if wrong:
        raise ValueError(f"{path} holds weights of another network (such as {wrong[0]})")


def read_checkpoint(path: Path, device: torch.device | str) -> dict:
    """Unpickle nothing but tensors and plain values."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"no checkpoint {path}; train first, or name a run's folder") from None
    except Exception as error:  # torch.load has no closed list of what damaged files raise
        reason = first_line(error)
        if "weights_only" in reason:  # PyTorch's own words advise to unpickle it all the same
            reason = "damaged, or no PyTorch file, or one that holds more than weights and plain values"
        raise ValueError(f"{path} is not a readable checkpoint ({reason})") from None


def load_model(path: str | Path, device: torch.device | str = "cpu") -> tuple[HeterogeneousUNet, dict]:
    """Rebuild a trained network, in evaluation mode, from its file alone.

    Args:
        path: "shipped", a `wm_best_model.pth`, the folder of a run that holds one, or a `.safetensors`.

    Returns:
        the network and what else the file says: `config` and, from a `.pth`, `epoch`, `val_loss`, `perceptual_weights`.

    Raises:
        ValueError: missing, damaged, or of another network; the message names the file.
    """
    path = weights_path(path)
    saved = _read_safetensors(path) if path.suffix == ".safetensors" else read_checkpoint(path, "cpu")
    config = saved.get("config") if isinstance(saved, dict) else None
    config = config if isinstance(config, dict) else {}  # what is wrong with it `_fill` says
    net = HeterogeneousUNet(bool(config.get("composite", True)), bool(config.get("decompose", False)))
    about = _fill(net, saved, path)
    return net.to(device, memory_format=torch.channels_last).eval(), about


def _read_safetensors(path: Path) -> dict:
    """The same as a `.pth` holds, as far as bare weights and their metadata tell."""
    if not path.is_file():
        raise ValueError(f"no weights {path}; name a .safetensors, a .pth or a run's folder")
    try:
        with safe_open(path, framework="pt") as file:
            form = file.metadata() or {}
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118  not a dict
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} is not a readable safetensors file ({first_line(error)})") from None
    config: dict = {name: form[name] == "true" for name in ("composite", "decompose") if name in form}
    if form.get("image_size", "").isdigit():
        config["image_size"] = int(form["image_size"])
    return {"model": weights, "config": config}


def save_state(training, result) -> None:
    """Write everything that the next step of a `Training` depends on, and what its `TrainResult` holds so far."""
    parts = ["net", "schedule", "scaler", *_optimizers(training, result)]
    if training.averaged is not None:
        parts.append("averaged")
    state = {name: getattr(training, name).state_dict() for name in parts}
    state |= {"config": training.config.to_dict(), "steps_per_epoch": training.steps_per_epoch}
    state["perceptual_weights"] = training.criterion.perceptual_source
    state["torch_rng"] = torch.get_rng_state()
    state["progress"] = {name: value for name, value in asdict(result).items() if name != "folder"}
    with atomic_path(result.folder / STATE) as path:
        torch.save(state, path)


def load_state(training, result) -> None:
    """Put a `Training` and its `TrainResult` back to where `save_state` left them.

    Raises:
        ValueError: there is no state, it is damaged, or it belongs to other settings; the message names them.
    """
    path = result.folder / STATE
    if not path.exists():
        raise ValueError(
            f"{result.folder} has no {STATE} to resume from: the run has finished, or never got as far as to save one"
        )
    state = read_checkpoint(path, training.device)
    _check_fits(training, state, path)
    for name in ("net", "averaged", "warmup_optimizer", "optimizer", "schedule"):
        if name in state:  # the warm-up's optimiser is not there once the warm-up is over
            getattr(training, name).load_state_dict(state[name])
    if state["scaler"] and training.scaler.is_enabled():  # one that is off saves nothing, and loads nothing
        training.scaler.load_state_dict(state["scaler"])
    torch.set_rng_state(state["torch_rng"].cpu())
    progress = state["progress"]
    vars(result).update(progress | {"underway": type(result.underway)(**progress.get("underway", {}))})
    result.stopped = "finished"


def remove_state(folder: Path) -> None:
    """Remove the state of a run that has finished."""
    (folder / STATE).unlink(missing_ok=True)


def _optimizers(training, result) -> list[str]:
    """Those that the next step depends on."""
    warming = len(result.warmup_losses) < training.config.warmup_epochs
    return ["warmup_optimizer", "optimizer"] if warming else ["optimizer"]


def _check_fits(training, state: dict, path: Path) -> None:
    changed = [name for name, value in training.config.to_dict().items() if state["config"].get(name) != value]
    if changed:
        raise ValueError(
            f"{path} was trained with other settings ({', '.join(changed)}); resume with the run's own config"
        )
    if state["steps_per_epoch"] != training.steps_per_epoch:
        raise ValueError(
            f"{path} was trained with {state['steps_per_epoch']} steps an epoch; resume with the same photographs"
        )
    if state["perceptual_weights"] != training.criterion.perceptual_source:
        raise ValueError(
            f"{path} was trained with {state['perceptual_weights']} perceptual features, this start loaded "
            f"{training.criterion.perceptual_source}; losses would not be comparable"
        )
