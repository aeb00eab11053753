"""Checkpoints: the best model of a run, weights to start from, and the state of an unfinished run."""

import io
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from wmremoval.config import TrainConfig
from wmremoval.files import first_line, write_bytes
from wmremoval.model import HeterogeneousUNet

if TYPE_CHECKING:  # these modules import this one
    from wmremoval.training.loop import TrainResult
    from wmremoval.training.trainer import Training

BEST_MODEL = "wm_best_model.pth"  # file in a run's folder: weights with config
BEST_WEIGHTS = "wm_best_model.safetensors"  # file in a run's folder: bare weights
SHIPPED_WEIGHTS = Path(__file__).parents[1] / "weights" / "wmremoval.safetensors"  # these come with the package
OTHERS = "name weights that were trained here"  # what to do about wrong ones
STATE = "training_state.pt"  # file in a run's folder, only while the run is unfinished


def save_best(training: "Training", result: "TrainResult") -> None:
    """Write the kept network of a `Training`: `wm_best_model.pth` with its config, and the weights as safetensors."""
    weights = {name: x.detach().cpu().contiguous() for name, x in training.kept.state_dict().items()}
    about = {
        "epoch": result.best_epoch,
        "val_loss": result.best_loss,
        "perceptual_weights": training.criterion.perceptual_source,
    }
    saved = {"config": training.config.to_dict(), "model": weights, **about}
    write_bytes(result.folder / BEST_MODEL, _serialised(saved))
    write_bytes(result.folder / BEST_WEIGHTS, save(weights, metadata=form_of(training.config.to_dict())))


def _serialised(content: dict) -> memoryview:
    """The bytes of a PyTorch file; made in memory, since PyTorch's own errors of writing name neither file nor reason."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getbuffer()


def form_of(config: dict) -> dict[str, str]:
    """The metadata of a safetensors file, from which the network of its weights is rebuilt."""
    return {name: str(config[name]).lower() for name in ("composite", "decompose", "image_size")}


def load_weights(net: nn.Module, path: str | Path) -> dict:
    """Load the weights of a `wm_best_model.pth` into a network, and return the rest of the file; see `load_model`.

    Raises:
        ValueError: missing, damaged, or of another network; the message names the file.
    """
    return _load_weights(net, read_checkpoint(Path(path), "cpu"), Path(path))


def _load_weights(net: nn.Module, saved: dict, path: Path) -> dict:
    try:
        net.load_state_dict(saved.pop("model"))
        saved["config"]["composite"]
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = "it has other layers" if isinstance(error, RuntimeError) else first_line(error)
        raise ValueError(f"{path} is not a checkpoint of this network ({reason}); {OTHERS}") from None
    return saved


def weights_path(start: str | Path) -> Path:
    """The file of weights: of "shipped", a run's folder, its `.pth` or a `.safetensors`."""
    if start == "shipped":
        return SHIPPED_WEIGHTS
    path = Path(start).expanduser()
    return path / BEST_MODEL if path.is_dir() else path


def load_start(net: nn.Module, start: str | Path) -> None:
    """Load trained weights into a network at the start of a run.

    The mark head may be missing in the weights, and is then left untrained. It may also be missing in the network.

    Args:
        net: the network.
        start: "shipped", a run's folder, its `.pth` or a `.safetensors`.

    Raises:
        ValueError: missing, damaged, or of another network; the message names the file.
    """
    path = weights_path(start)
    try:
        weights = load_file(path) if path.suffix == ".safetensors" else read_checkpoint(path, "cpu")["model"]
        missing, unexpected = net.load_state_dict(weights, strict=False)
    except (KeyError, TypeError, AttributeError, RuntimeError, OSError, SafetensorError) as error:
        reason = first_line(error)
        raise ValueError(f"{path} holds no weights of this network ({reason}); {OTHERS}") from None
    wrong = [name for name in [*missing, *unexpected] if not name.startswith("mark.")]
    if wrong:
        raise ValueError(f"{path} holds weights of another network (such as {wrong[0]}); {OTHERS}")


def read_checkpoint(path: Path, device: torch.device | str) -> dict:
    """Read a PyTorch file of tensors and plain values; nothing else is unpickled.

    Raises:
        ValueError: missing, damaged, or with other objects; the message names the file.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"no checkpoint {path}; train first, or name a run's folder") from None
    except Exception as error:  # damaged files raise many kinds of errors in torch.load
        reason = first_line(error)
        if "weights_only" in reason:  # PyTorch's message advises to unpickle the file nevertheless
            reason = "damaged, or no PyTorch file, or one that holds more than weights and plain values"
        raise ValueError(f"{path} is not a readable checkpoint ({reason}); {OTHERS}") from None


def load_model(path: str | Path, device: torch.device | str = "cpu") -> tuple[HeterogeneousUNet, dict]:
    """Rebuild a trained network from its file, in evaluation mode.

    Args:
        path: "shipped", a `wm_best_model.pth`, the folder of a run with one, or a `.safetensors`.
        device: of the network.

    Returns:
        the network and the rest of the file: `config` and, from a `.pth`, `epoch`, `val_loss`, `perceptual_weights`.

    Raises:
        ValueError: missing, damaged, or of another network; the message names the file.
    """
    path = weights_path(path)
    saved = _read_safetensors(path) if path.suffix == ".safetensors" else read_checkpoint(path, "cpu")
    config = saved.get("config") if isinstance(saved, dict) else None
    config = config if isinstance(config, dict) else {}  # `_load_weights` reports errors in it
    net = HeterogeneousUNet(bool(config.get("composite", True)), bool(config.get("decompose", False)))
    about = _load_weights(net, saved, path)
    return net.to(device).to(memory_format=torch.channels_last).eval(), about


def _read_safetensors(path: Path) -> dict:
    """The weights and the config of a safetensors file, in the form of a `.pth`; the config is that of the metadata."""
    if not path.is_file():
        raise ValueError(f"no weights {path}; name a .safetensors, a .pth or a run's folder")
    try:
        with safe_open(path, framework="pt") as file:
            form = file.metadata() or {}
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118  not a dict
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} is not a readable safetensors file ({first_line(error)}); {OTHERS}") from None
    config: dict = {name: form[name] == "true" for name in ("composite", "decompose") if name in form}
    if form.get("image_size", "").isdigit():
        config["image_size"] = int(form["image_size"])
    return {"model": weights, "config": config}


def save_state(training: "Training", result: "TrainResult") -> None:
    """Write the state of a `Training`, so that its next step can follow, and its `TrainResult` so far."""
    parts = ["net", "schedule", "scaler", *_optimizers(training, result)]
    if training.averaged is not None:
        parts.append("averaged")
    state = {name: getattr(training, name).state_dict() for name in parts}
    state |= {"config": training.config.to_dict(), "steps_per_epoch": training.steps_per_epoch}
    state["perceptual_weights"] = training.criterion.perceptual_source
    state["torch_rng"] = torch.get_rng_state()
    state["progress"] = {name: value for name, value in asdict(result).items() if name != "folder"}
    write_bytes(result.folder / STATE, _serialised(state))


def load_state(training: "Training", result: "TrainResult") -> None:
    """Restore the state of a `Training` and its `TrainResult` from `save_state`.

    Raises:
        ValueError: the state is missing, damaged, or of other settings, which the message names.
    """
    path = result.folder / STATE
    if not path.exists():
        raise ValueError(
            f"{result.folder} has no {STATE} to resume from: the run has finished, or never got as far as to save one; "
            "begin a new run from its weights with --start"
        )
    state = read_checkpoint(path, training.device)
    _check_fits(training, state, path)
    for name in ("net", "averaged", "warmup_optimizer", "optimizer", "schedule"):
        if name in state:  # the warm-up's optimiser is saved during the warm-up only
            getattr(training, name).load_state_dict(state[name])
    if state["scaler"] and training.scaler.is_enabled():  # a disabled scaler has no state
        training.scaler.load_state_dict(state["scaler"])
    torch.set_rng_state(state["torch_rng"].cpu())
    progress = state["progress"]
    vars(result).update(progress | {"underway": type(result.underway)(**progress.get("underway", {}))})
    result.stopped = "finished"


def remove_state(folder: Path) -> None:
    """Remove the state of a run that has finished."""
    (folder / STATE).unlink(missing_ok=True)


def _optimizers(training: "Training", result: "TrainResult") -> list[str]:
    """Attributes of the `Training`: the optimisers that the coming steps use."""
    warming = len(result.warmup_losses) < training.config.warmup_epochs
    return ["warmup_optimizer", "optimizer"] if warming else ["optimizer"]


def _check_fits(training: "Training", state: dict, path: Path) -> None:
    saved = TrainConfig.from_dict(state["config"]).to_dict()  # settings newer than the state have their defaults
    changed = [name for name, value in training.config.to_dict().items() if saved[name] != value]
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
            f"{training.criterion.perceptual_source}, and losses would not be comparable; put the first back"
        )
