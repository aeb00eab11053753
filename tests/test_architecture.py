"""The walls between the files of the package: who may import whom, how long things may be, and that imports do nothing."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import wmremoval

PACKAGE = Path(wmremoval.__file__).parent
FILES = sorted(PACKAGE.glob("*.py"))
MOST_LINES, MOST_FUNCTION_LINES = 300, 60
ANYTHING = {path.stem for path in FILES}

# What each file may import of ours. A new file fails until it is given its place here.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "images": set(),
    "fonts": set(),
    "model": set(),
    "metrics": set(),
    "runs": set(),
    "config": set(),
    "stamps": {"fonts"},
    "watermarks": {"fonts", "images", "stamps"},
    "photos": {"images"},
    "photostore": {"images"},
    "data": {"fonts", "images", "photos", "photostore", "watermarks"},
    "losses": {"metrics"},
    "checkpoints": {"model", "runs"},
    "loaders": {"config", "data", "fonts", "photostore", "watermarks"},
    "throughput": {"config", "model"},
    "states": {"checkpoints", "runs"},
    "training": {
        "checkpoints",
        "config",
        "data",
        "devices",
        "losses",
        "metrics",
        "model",
    },
    "epochs": {"config", "metrics", "training"},
    "fitting": {"checkpoints", "epochs", "runs", "states", "throughput", "training"},
    "evaluation": {"data", "losses", "metrics", "model", "runs"},
    "panels": {"images"},
    "plots": {"images", "metrics", "panels"},
    "diagrams": {"images", "metrics", "panels"},
    "diagnostics": {"images", "metrics", "panels", "plots"},
    "reports": {"config", "runs"},
    "benchmark": {"data", "images", "photos"},
    "attention": set(),
    "fastnet": {"attention", "model"},
    "netbenchmark": {"fastnet", "model"},
    "devices": set(),
    "maps": {"model"},
    "consensus": {"inpainting", "maps"},
    "separation": {"consensus", "maps"},
    "inpainting": set(),
    "repainting": {"images", "inpainting", "maps"},
    "upsampling": {"maps"},
    "regions": set(),
    "tifftags": set(),
    "jpegsegments": set(),
    "pngchunks": set(),
    "pixelkinds": set(),
    "photoerrors": {"images", "pixelkinds"},
    "photoformats": {"jpegsegments", "pngchunks", "tifftags", "pixelkinds"},
    "photofile": {"images", "photoerrors", "photoformats", "pixelkinds", "pngchunks", "tifftags"},
    "photoencode": {"jpegsegments", "pngchunks", "tifftags", "photoerrors", "photofile", "photoformats", "pixelkinds"},
    "photowrite": {"images", "photoencode", "photoerrors", "photofile", "photoformats", "pixelkinds"},
    "tiles": {"consensus", "images", "maps", "repainting", "separation"},
    "looks": {"images", "maps", "regions", "tiles"},
    "verdict": {"looks", "maps", "regions", "tiles"},
    "edges": set(),
    "plates": {"pixelkinds"},
    "platesearch": {"edges", "plates"},
    "inference": {
        "checkpoints",
        "devices",
        "fastnet",
        "images",
        "looks",
        "photofile",
        "plates",
        "platesearch",
        "regions",
        "repainting",
        "runs",
        "tiles",
        "upsampling",
        "verdict",
    },
    "jobs": {"photoerrors", "photofile", "photowrite"},
    "removal": {"images", "inference", "jobs", "photoerrors", "photofile", "photowrite"},
    "removecommand": {"__init__", "inference", "jobs", "photofile", "photowrite", "removal", "runs"},
    "averaging": {"checkpoints", "runs"},
    "shipping": {"__init__", "checkpoints", "inference", "runs"},
    "widget": {"images", "inference", "panels", "photoerrors", "photofile", "photowrite"},
    "photobenchmark": {"fonts", "images", "inference", "jobs", "photos", "removal", "watermarks"},
    "logos": {"watermarks"},
    "suite": {"data", "fonts", "images", "inference", "logos", "metrics", "photos", "watermarks"},
    "oracle": {
        "consensus",
        "images",
        "inference",
        "maps",
        "metrics",
        "repainting",
        "reports",
        "runs",
        "separation",
        "suite",
        "tiles",
        "watermarks",
    },
    "protocol": {"checkpoints", "data", "devices", "images", "inference", "metrics", "photos", "runs", "suite"},
    "suitereport": {"checkpoints", "devices", "images", "inference", "panels", "reports", "runs", "suite", "tiles"},
    "everydaymarks": {"stamps", "watermarks"},
    "everyday": {
        "everydaymarks",
        "images",
        "inference",
        "panels",
        "photos",
        "reports",
        "runs",
        "suite",
        "suitereport",
        "watermarks",
    },
    "gallery": {"fonts", "images", "inference", "metrics", "panels", "photos", "runs", "watermarks"},
    "scalebenchmark": {"data", "fonts", "images", "inference", "metrics", "photos", "watermarks"},
    "experiment": {
        "logos",
        "fonts",
        "images",
        "checkpoints",
        "config",
        "data",
        "loaders",
        "evaluation",
        "fitting",
        "losses",
        "model",
        "photos",
        "reports",
        "runs",
        "training",
        "watermarks",
    },
    "publishing": ANYTHING - {"__main__", "benchmarkcommand", "traincommand"},
    "traincommand": ANYTHING - {"__main__", "benchmarkcommand"},
    "benchmarkcommand": {
        "benchmark",
        "inference",
        "netbenchmark",
        "photobenchmark",
        "reports",
        "runs",
        "scalebenchmark",
    },
    "__main__": ANYTHING,
}
DOING = {"print", "open", "seed", "manual_seed", "seed_everything", "read_text", "write_text", "read_bytes", "write_bytes", "mkdir", "touch",
         "urlopen", "urlretrieve", "download", "run", "Popen", "load", "save", "set_num_threads", "setNumThreads", "basicConfig"}  # fmt: skip


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), path.name)


def imports_of(path: Path) -> set[str]:
    """The files of ours that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1, f"{path.name}:{node.lineno} leaves the package"
            found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "wmremoval":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {
                [*alias.name.split("."), "__init__"][1]
                for alias in node.names
                if alias.name.split(".")[0] == "wmremoval"
            }
    return found & ANYTHING


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_imports_only_what_it_may(path):
    assert path.stem in MAY_IMPORT, f"{path.name} is new: give it its place in the table"
    assert imports_of(path) <= MAY_IMPORT[path.stem]


def test_the_table_names_no_file_that_is_gone():
    assert set(MAY_IMPORT) == ANYTHING


def test_imports_run_one_way_only():
    graph = {path.stem: imports_of(path) for path in FILES}
    while free := [name for name, wanted in graph.items() if not wanted & graph.keys() - {name}]:
        assert all(name not in graph[name] for name in free), f"a file among {free} imports itself"
        graph = {name: wanted for name, wanted in graph.items() if name not in free}
    assert not graph, f"a circle among {sorted(graph)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_has_one_job_said_in_its_first_line(path):
    docstring = ast.get_docstring(parse(path))
    assert docstring and docstring.splitlines()[0].endswith((".", ":"))
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_function_is_long(path):
    functions = [node for node in ast.walk(parse(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_FUNCTION_LINES} == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
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


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
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
    importlib.import_module(f"wmremoval.{name}")
print(json.dumps({"heavy": heavy, "deeds": deeds, "untouched": state() == before}))
"""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """What a fresh interpreter does while it imports the model alone, then everything."""
    folder = tmp_path_factory.mktemp("elsewhere")
    done = subprocess.run(
        [sys.executable, "-B", "-c", IMPORT_ALL, *sorted(ANYTHING - {"__init__"})],
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
