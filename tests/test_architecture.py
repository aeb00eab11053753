"""The walls between the rooms of the package: who may import whom, how long functions may be, and that imports do nothing."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import wmremoval

PACKAGE = Path(wmremoval.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_FUNCTION_LINES = 60

# Which rooms each room may import. The face is the seven files that stand beside them.
FACE = {"config", "files", "images", "losses", "metrics", "model", "settings"}
MAY_IMPORT: dict[str, set[str]] = {
    "wmremoval": {"restore", "shared"},  # `load_remover` and `learn_watermarks`, when they are first asked for
    "face": set(),
    "photofile": {"face"},
    "data": {"face"},
    "training": {"face", "data"},
    "restore": {"face", "photofile", "training"},
    "shared": {"face", "photofile", "restore"},
    "batch": {"face", "photofile", "restore"},
    "cluster": {"face", "photofile", "restore", "shared", "batch"},
    "app": {"face", "photofile", "restore", "batch"},
    "report": {"face", "photofile", "data", "training", "restore", "shared"},
    "cli": {"face", "photofile", "data", "training", "restore", "shared", "batch", "cluster", "app", "report"},
    "bench": {"face", "photofile", "data", "training", "restore", "shared", "batch", "report", "cli"},
    "__main__": {"cli"},
}
# What single files of a room may import of another, where the whole room would be too much.
NARROW = {("restore", "training"): {"wmremoval.training.checkpoints"}, ("bench", "cli"): {"wmremoval.cli.dispatch"}}
DOING = {"print", "open", "seed", "manual_seed", "seed_everything", "read_text", "write_text", "read_bytes", "write_bytes", "mkdir", "touch",
         "urlopen", "urlretrieve", "download", "run", "Popen", "load", "save", "set_num_threads", "setNumThreads", "basicConfig"}  # fmt: skip


def name_of(path: Path) -> str:
    """The dotted name of a module of ours."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}
EACH = pytest.mark.parametrize("path", FILES, ids=name_of)


def room_of(module: str) -> str:
    """The row of the table that a module belongs to."""
    parts = module.split(".")
    return "wmremoval" if len(parts) == 1 else "face" if parts[1] in FACE else parts[1]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), path.name)


def for_types(tree: ast.Module) -> set[ast.AST]:
    """Everything below an `if TYPE_CHECKING`, which never runs."""
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {node for block in blocks for node in ast.walk(block)}


def imports_of(path: Path, types: bool = True) -> set[str]:
    """The modules of ours that a file imports, inside functions too; those for types alone only with `types`."""
    found, tree = set(), parse(path)
    left_out = set() if types else for_types(tree)
    for node in ast.walk(tree):
        if node in left_out:
            continue
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}:{node.lineno}: name the module in full"
            if node.module.split(".")[0] == "wmremoval":
                inner = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
                found |= inner or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "wmremoval"}
    return found


@EACH
def test_a_file_imports_only_rooms_below_its_own(path):
    room = room_of(name_of(path))
    assert room in MAY_IMPORT, f"{room} is new: give it its place in the table"
    for module in imports_of(path) - {"wmremoval"}:
        other = room_of(module)
        assert other == room or other in MAY_IMPORT[room], f"{room} imports {module}"
        assert module in NARROW.get((room, other), {module}), f"{room} may not import {module}"


def test_the_table_names_no_room_that_is_gone():
    assert set(MAY_IMPORT) == {room_of(module) for module in MODULES}


def test_the_rooms_have_eight_floors():
    floors, left = 0, {room: wanted for room, wanted in MAY_IMPORT.items() if room not in ("wmremoval", "__main__")}
    while free := [room for room, wanted in left.items() if not wanted & left.keys()]:
        floors, left = floors + 1, {room: wanted for room, wanted in left.items() if room not in free}
    assert not left and floors <= 8


def test_imports_run_one_way_only():
    """Imports for types alone are left out; so is the package itself, which imports `restore` late."""
    graph = {
        module: imports_of(path, types=False) - {"wmremoval", module}
        for module, path in MODULES.items()
        if module != "wmremoval"
    }
    while free := [module for module, wanted in graph.items() if not wanted & graph.keys()]:
        graph = {module: wanted for module, wanted in graph.items() if module not in free}
    assert not graph, f"a circle among {sorted(graph)}"


@EACH
def test_a_file_has_one_job_said_in_its_first_line(path):
    docstring = ast.get_docstring(parse(path))
    assert docstring and docstring.splitlines()[0].endswith((".", ":"))


@EACH
def test_no_function_is_long(path):
    functions = [node for node in ast.walk(parse(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_FUNCTION_LINES} == {}


@EACH
def test_no_error_is_swallowed_unseen(path):
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{path.name}:{node.lineno} is a bare except"
            caught = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)}
            if caught & {"Exception", "BaseException"}:
                assert any(isinstance(inner, ast.Raise) for inner in ast.walk(node)), (
                    f"{path.name}:{node.lineno} swallows everything"
                )


def executed_at_import(tree: ast.Module):
    """Calls outside of functions, class bodies and default values included, the main guard not."""
    stack = [node for node in tree.body if not (isinstance(node, ast.If) and "__name__" in ast.unparse(node.test))]
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            stack += [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
        elif not isinstance(node, ast.Lambda):
            if isinstance(node, ast.Call):
                yield node
            stack += ast.iter_child_nodes(node)


@EACH
def test_nothing_is_printed_opened_or_seeded_at_import(path):
    for call in executed_at_import(parse(path)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        assert name not in DOING, f"{path.name}:{call.lineno} calls {name} when it is imported"


IMPORT_ALL = """
import importlib, json, random, sys
import numpy, torch
deeds = []
def watch(event, args):
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+") and "wmremoval" in str(args[0])
    if writes or event in ("socket.connect", "socket.getaddrinfo"):
        deeds.append(f"{event} {args[0]}" if writes else event)
sys.addaudithook(watch)
def state():
    return str(random.getstate()), str(numpy.random.get_state()), torch.get_rng_state().tolist(), torch.get_num_threads(), str(torch.get_default_dtype())
before = state()
import wmremoval.model
heavy = [name for name in ("torchvision", "kornia", "albumentations", "matplotlib", "cv2") if name in sys.modules]
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps({"heavy": heavy, "deeds": deeds, "untouched": state() == before}))
"""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """What a fresh interpreter does while it imports the model alone, then everything."""
    folder = tmp_path_factory.mktemp("elsewhere")
    done = subprocess.run(
        [sys.executable, "-B", "-c", IMPORT_ALL, *sorted(MODULES)],
        capture_output=True, text=True, cwd=folder, timeout=120, check=False,
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done, folder


def test_importing_the_model_imports_nothing_heavy(fresh):
    assert json.loads(fresh[0].stdout.splitlines()[-1])["heavy"] == []


def test_importing_everything_prints_nothing(fresh):
    assert len(fresh[0].stdout.splitlines()) == 1 and fresh[0].stderr == ""


def test_importing_everything_writes_nothing_asks_no_network_and_leaves_random_states_alone(fresh):
    report = json.loads(fresh[0].stdout.splitlines()[-1])
    assert report["deeds"] == [] and report["untouched"] is True
    assert list(fresh[1].iterdir()) == []


def test_load_remover_is_the_package_s_own_name():
    from wmremoval.restore.remover import load_remover

    assert wmremoval.load_remover is load_remover
    with pytest.raises(AttributeError, match="load_removers"):
        _ = wmremoval.load_removers
