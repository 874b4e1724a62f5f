"""One stem, one room; dependencies that point one way; a lazy package; a stub that is true."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

import netassay
from netassay import _core
from netassay.report.measures import ABOUT
from netassay.report.rows import ROW_FIELDS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "python" / "netassay"
MEASURES = ("saturation", "complexity", "persistence", "network", "algebra")
ROOMS = (
    "cpp/include/netassay/{}.hpp",
    "cpp/src/{0}/{0}.cpp",
    "cpp/bindings/bind_{}.cpp",
    "python/netassay/{}.py",
    "python/netassay/_core/{}.pyi",
    "python/netassay/report/about/{}.py",
    "tests/reference/{}.py",
    "tests/python/test_{}.py",
    "tests/cpp/test_{}.cpp",
    "benchmarks/bench_{}.py",
)
#: What several measures stand on: a header is a contract, with a source and a test of its name.
SUBSTRATES = ("stats", "graph", "io")

#: What may import what: only what stands further down. Modules of one line do not know each other.
LINES = (
    ("__main__",),
    ("cli",),
    ("demo", "integrations"),
    ("verbs",),
    ("sources", "report"),
    MEASURES,
    ("stats",),
    ("base",),
    ("_core",),
)
#: The rooms of sources, and the modules beside them: what each may import of the others.
SOURCES = {
    "patterns": (),
    "layers": ("patterns",),
    "checkpoint": ("layers",),
    "live": ("layers",),
    "traced": ("layers",),
    "passes": ("traced",),
    "chain": ("layers", "checkpoint"),
}
#: The same inside a room: only what is listed further down. Names of one line may import each other.
FLOORS = {
    "report": (
        ("align", "history", "join", "schema"),
        ("compare", "report"),
        ("show", "scalars"),
        ("measures",),
        ("about",),
        ("kinds",),
        ("rows",),
        ("decode",),
        ("encode",),
    )
}
#: Where torch may be imported, inside functions.
KNOW_TORCH = ("sources", "verbs", "integrations", "demo")


def test_a_measure_has_all_its_rooms() -> None:
    def exists(room: str, stem: str) -> bool:
        path = ROOT / room.format(stem)
        return path.exists() or (path.with_suffix("") / "__init__.py").exists()  # a module may have become a package

    present = {stem: {room for room in ROOMS if exists(room, stem)} for stem in MEASURES}
    begun = {stem: rooms for stem, rooms in present.items() if rooms}
    assert "saturation" in begun
    missing = {stem: sorted(set(ROOMS) - rooms) for stem, rooms in begun.items() if rooms != set(ROOMS)}
    assert missing == {}


def test_a_contract_of_a_substrate_has_its_source_and_its_test() -> None:
    """Of what computes in C++; files are tried from Python, where they are written."""
    stems = [path for room in SUBSTRATES for path in (ROOT / "cpp/include/netassay" / room).glob("*.hpp")]
    assert {path.parent.name for path in stems} == set(SUBSTRATES)
    rooms = [f"cpp/src/{path.parent.name}/{path.stem}.cpp" for path in stems]
    rooms += [f"tests/cpp/test_{path.stem}.cpp" for path in stems if path.parent.name != "io"]
    assert [room for room in rooms if not (ROOT / room).exists()] == []


def test_every_cpp_test_and_every_kernel_is_built() -> None:
    listed = re.search(r"foreach\(stem ([^)]*)\)", (ROOT / "tests/cpp/CMakeLists.txt").read_text(encoding="utf-8"))
    assert listed is not None
    assert sorted(f"test_{stem}.cpp" for stem in listed[1].split()) == sorted(
        path.name for path in (ROOT / "tests/cpp").glob("test_*.cpp")
    )
    built = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    units = sorted(path for room in (*SUBSTRATES, *MEASURES) for path in (ROOT / "cpp/src" / room).glob("kernel_*.cpp"))
    assert [path.name for path in units if str(path.relative_to(ROOT)) not in built] == []
    for room in {path.parent.name for path in units} | {"stats", "graph"}:
        levels = {path.stem.removeprefix("kernel_") for path in units if path.parent.name == room}
        assert levels >= {"baseline", "avx2", "avx512"}


# ---- C++ ----


def cpp_files(*folders: str) -> Iterator[tuple[Path, str]]:
    for folder in folders or ("include", "src", "bindings"):
        for path in sorted((ROOT / "cpp" / folder).rglob("*.[ch]pp")):
            yield path.relative_to(ROOT / "cpp"), path.read_text(encoding="utf-8")


def includes(text: str) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', text, re.MULTILINE)


def test_pybind11_is_in_the_bindings_alone() -> None:
    users = {path.parts[0] for path, text in cpp_files() if "pybind11" in text or "Python.h" in text}
    assert users == {"bindings"}


def test_torch_is_nowhere_in_cpp() -> None:
    found = [str(path) for path, text in cpp_files() if re.search(r"torch/|\bat::|\bc10\b|ATen", text)]
    assert found == []


def test_threads_start_in_base_parallel_alone() -> None:
    pragma = re.compile(r"#\s*pragma\s+omp|<omp\.h>|std::j?thread\b|std::async\b")
    assert [str(path) for path, text in cpp_files() if pragma.search(text)] == ["src/base/parallel.cpp"]


def test_public_headers_need_no_third_party() -> None:
    own = re.compile(r"netassay/|[a-z_]+$")  # ours, or the standard library's
    foreign = {str(p): i for p, text in cpp_files("include") for i in includes(text) if not own.match(i)}
    assert foreign == {}


def test_cpp_dependencies_point_one_way() -> None:
    def rank(part: str) -> int:
        return ({"base": 0} | dict.fromkeys(SUBSTRATES, 1)).get(part, 2)

    wrong = []
    for path, text in cpp_files("include", "src"):
        own = path.parts[2 if path.parts[0] == "include" else 1].removesuffix(".hpp")
        for name in includes(text):
            part = name.removeprefix("netassay/").split("/")[0].removesuffix(".hpp")
            if part not in (*MEASURES, "base", *SUBSTRATES):
                continue
            if part != own and rank(part) >= rank(own):
                wrong.append(f"{path} includes {name}")
    assert wrong == []


# ---- Python ----


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:  # spell relative imports out
                above = parts[: len(parts) - node.level]
                node.module, node.level = ".".join((*above, *filter(None, [node.module]))), 0
        yield name, tree


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        if node.module == "netassay":
            return [f"netassay.{alias.name}" for alias in node.names]
        return [node.module or ""]
    return []


def line_of(module: str) -> int | None:
    """Where in LINES a module of the package stands; None for a name of the package itself."""
    part = module.split(".")[1] if "." in module else ""
    return next((i for i, line in enumerate(LINES) if part in line), None)


def test_every_module_has_its_line() -> None:
    assert [name for name, _ in modules() if name != "netassay" and line_of(name) is None] == []


def test_python_imports_point_one_way() -> None:
    wrong = []
    for name, tree in modules():
        if name == "netassay":
            continue  # names everything, loads nothing
        own = line_of(name)
        assert own is not None, name
        for target in (t for node in ast.walk(tree) for t in imported(node) if t.startswith("netassay.")):
            at = line_of(target)
            siblings = target.split(".")[1] == name.split(".")[1]
            if at is not None and at <= own and not siblings:
                wrong.append(f"{name} imports {target}")
    assert wrong == []


def test_the_rooms_of_sources_know_only_those_below_them() -> None:
    """Imports inside functions, and for types alone, are imports too."""
    found: dict[str, set[str]] = {}
    for name, tree in modules():
        if not name.startswith("netassay.sources."):
            continue
        own = name.split(".")[2]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "netassay.sources":
                found.setdefault(own, set()).update(alias.name for alias in node.names)
            else:
                targets = [target.split(".") for target in imported(node)]
                found.setdefault(own, set()).update(t[2] for t in targets if t[:2] == ["netassay", "sources"] and t[2:])
    assert set(found) == set(SOURCES)
    upward = {own: sorted(others - {own, *SOURCES[own]}) for own, others in found.items()}
    assert {own: others for own, others in upward.items() if others} == {}


def test_imports_are_absolute() -> None:
    relative = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py*"))
        if path.suffix in (".py", ".pyi")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def arrows() -> dict[str, set[str]]:
    """Module -> the modules that it imports anywhere, for types alone too. The package itself names everything."""
    trees = dict(modules())

    def targets(node: ast.AST) -> list[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            return [name if name in trees else node.module or "" for name in inside]
        return []

    return {
        name: {target for node in ast.walk(tree) for target in targets(node) if target in trees} - {name, "netassay"}
        for name, tree in trees.items()
        if name != "netassay"
    }


def reached(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    """The modules at the end of one arrow or more."""
    found: set[str] = set()
    ahead = list(edges[start])
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += edges[name]
    return found


def test_no_import_leads_back_to_its_module() -> None:
    edges = arrows()
    assert [name for name in edges if name in reached(name, edges)] == []


@pytest.mark.parametrize("room", FLOORS)
def test_imports_inside_a_room_point_one_way(room: str) -> None:
    floors = {name: at for at, line in enumerate(FLOORS[room]) for name in line}
    within = f"netassay.{room}."
    inside = {name: targets for name, targets in arrows().items() if name.startswith(within)}
    assert {name.split(".")[2] for name in inside} == set(floors)
    wrong = [
        f"{name} imports {target}"
        for name, targets in inside.items()
        for target in targets & inside.keys()
        if (own := name.split(".")[2]) != (other := target.split(".")[2]) and floors[other] < floors[own]
    ]
    assert wrong == []


def test_a_module_about_a_measure_is_known_to_the_list_of_measures_alone() -> None:
    own = {f"netassay.report.about.{stem}" for stem in MEASURES}
    users = {name for name, targets in arrows().items() if targets & own}
    assert users == {"netassay.report.measures"}


def test_what_shows_numbers_names_no_measure() -> None:
    names = {one.name for about in ABOUT for one in (*about.measures, *about.totals)} - set(ROW_FIELDS)
    for name, tree in modules():
        if name == "netassay.report.kinds":
            continue  # a kind of finding may have the name of the total that it follows from
        if name.startswith("netassay.report.") and not name.startswith("netassay.report.about."):
            texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
            assert texts & names == set(), name


def outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from outside_functions(node)


def test_torch_is_imported_inside_functions_and_only_where_models_are_known() -> None:
    def torch(node: ast.AST) -> bool:
        return any(target.split(".")[0] == "torch" for target in imported(node))

    wrong = []
    for name, tree in modules():
        if any(torch(node) for node in outside_functions(tree)):
            wrong.append(f"{name}: outside functions")
        knows = name.split(".")[1:2] and name.split(".")[1] in KNOW_TORCH
        inside = any(torch(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f))
        if inside and not knows:
            wrong.append(f"{name}: inside a function")
    assert wrong == []


def run_python(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_loads_neither_torch_nor_numpy() -> None:
    run_python("import sys, netassay; assert not {'torch', 'numpy', 'click', 'rich'} & set(sys.modules)")


HELP = [[verb, "--help"] for verb in ("compare", "demo", "plan", "structure", "weights")]


@pytest.mark.parametrize("words", [["--help"], *HELP, ["--version"], ["--cmake-dir"]])
def test_help_loads_neither_torch_nor_numpy_nor_rich(words: list[str]) -> None:
    code = f"import sys; from netassay.cli import main; assert main({words}) == 0"
    run_python(code + "; assert not {'torch', 'numpy', 'rich'} & set(sys.modules)")


def test_every_public_name_is_there() -> None:
    for name in netassay.__all__:
        assert getattr(netassay, name) is not None
    assert sorted(netassay.__all__) == netassay.__all__
    assert set(netassay.__all__) <= set(dir(netassay))


def test_the_readmes_first_example_prints_the_readmes_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    [(example, shown)] = re.findall(r"```python\n(.*?)```\n```\n(.*?)```", text, re.DOTALL)
    exec(example, {})
    printed = capsys.readouterr().out
    assert printed.split("\n\n")[0] == shown.split("\n\n")[0]


def test_examples_in_docstrings_are_true() -> None:
    found = 0
    for info in pkgutil.walk_packages(netassay.__path__, "netassay."):
        if info.name in ("netassay.__main__", "netassay._core") or info.name.startswith("netassay._core."):
            continue
        result = doctest.testmod(importlib.import_module(info.name))
        assert result.failed == 0, info.name
        found += result.attempted
    assert found > 0


#: Modules of the measures that reduce arrays in numpy, and what these arrays are. Weights and activations are reduced
#: in C++; "weights" and "bits of activations" name those that are not yet.
REDUCE = {
    "saturation": "a spectrum and projections onto it",
    "complexity.given": "counts of one batch",
    "complexity.growth": "points of a curve",
    "complexity.patterns": "bits of activations",
    "complexity.result": "counts of units",
    "persistence.deep": "weights: a convolution's kernels",
    "persistence.diagnostics": "weights, which are shuffled and sorted as a control",
    "persistence.shift": "persistences of samples",
    "network.affine": "sums of columns",
    "network.backbone": "weights",
    "network.concentration": "weights",
    "network.contrast": "strengths and scores of networks",
    "network.convolution": "sums of kernels",
    "network.divergence": "counts of bins",
    "network.layer": "sums of rows and columns",
    "network.nodes": "strengths of nodes",
    "network.population": "strengths and scores of networks",
    "network.strength": "strengths of nodes",
    "algebra.chains": "edges of a graph",
    "algebra.inputs": "edges of a graph",
    "algebra.paths": "edges of a graph",
}
REDUCING = {
    "argmax", "argmin", "argpartition", "argsort", "average", "bincount", "count_nonzero", "cumprod", "cumsum", "dot",
    "einsum", "histogram", "inner", "matmul", "max", "mean", "median", "min", "percentile", "prod", "ptp",
    "quantile", "searchsorted", "slogdet", "sort", "std", "sum", "svd", "tensordot", "unique", "var",
}  # fmt: skip


def reduces(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp | ast.AugAssign):
        return isinstance(node.op, ast.MatMult)
    called = node.func if isinstance(node, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr in REDUCING and ast.unparse(called.value) != "math"


def test_measures_reduce_weights_and_activations_in_cpp() -> None:
    nouns = {name.removeprefix("netassay."): tree for name, tree in modules() if line_of(name) == LINES.index(MEASURES)}
    assert len(nouns) > len(REDUCE)
    assert {name for name, tree in nouns.items() if any(map(reduces, ast.walk(tree)))} == set(REDUCE)


# ---- the stub of the extension ----

Signature = tuple[tuple[str, ...], tuple[str, ...], dict[str, str]]


def signature(arguments: ast.arguments) -> Signature:
    """Names, keyword-only names, and defaults."""
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
    defaults = dict(zip(reversed(names), map(ast.unparse, reversed(arguments.defaults)), strict=False))
    only = [a.arg for a in arguments.kwonlyargs]
    given = {n: ast.unparse(d) for n, d in zip(only, arguments.kw_defaults, strict=True) if d is not None}
    return tuple(n for n in names if n != "self"), tuple(only), defaults | given


def native_signature(function: object) -> Signature:
    """pybind11 writes it in the first line of the docstring."""
    line = (getattr(function, "__doc__", None) or "").splitlines()[0]
    node = ast.parse(f"def {line}: ...").body[0]
    assert isinstance(node, ast.FunctionDef)
    return signature(node.args)


def native_names(holder: object) -> set[str]:
    names = {name for name in vars(holder) if not name.startswith("_")}
    return names | ({"__init__"} if isinstance(holder, type) and not issubclass(holder, Exception) else set())


def compare(stub: list[ast.stmt], native: object, where: str) -> None:
    names = set()
    for node in stub:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            assert hasattr(native, node.target.id), f"{where}.{node.target.id}"
        if isinstance(node, ast.ImportFrom):
            names |= {alias.asname for alias in node.names if alias.asname}
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        names.add(node.name)
        here = f"{where}.{node.name}"
        assert hasattr(native, node.name), f"{here} is in the stub alone"
        value = getattr(native, node.name)
        if isinstance(node, ast.ClassDef):
            assert isinstance(value, type), here
            if issubclass(value, Exception):
                assert {b.__name__ for b in value.__bases__} == {ast.unparse(b) for b in node.bases}, here
            compare(node.body, value, here)
        elif any(ast.unparse(d) == "property" for d in node.decorator_list):
            assert isinstance(value, property), here
        else:
            assert signature(node.args) == native_signature(value), here
    assert native_names(native) - names == set(), f"{where}: missing in the stub"


@pytest.mark.parametrize("stub", sorted((PACKAGE / "_core").glob("*.pyi")), ids=lambda path: path.stem)
def test_the_stub_says_what_the_extension_has(stub: Path) -> None:
    native: ModuleType = _core if stub.stem == "__init__" else getattr(_core, stub.stem)
    compare(ast.parse(stub.read_text(encoding="utf-8")).body, native, native.__name__)


def test_every_submodule_of_the_extension_has_a_stub() -> None:
    found = {name for name, value in vars(_core).items() if isinstance(value, ModuleType)}
    assert found == {path.stem for path in (PACKAGE / "_core").glob("*.pyi")} - {"__init__"}


# ---- the tests ----

TESTS = ROOT / "tests" / "python"
#: What uses the core and is not run under the sanitizers, and why.
UNSANITIZED = {
    "test_house.py": "it compares names alone",
    "test_isa.py": "processes of a minute each; the sanitized C++ tests run at every instruction set",
    "test_network_levels.py": "processes at each instruction set, as in test_isa.py",
}


def test_a_test_of_the_core_runs_under_the_sanitizers() -> None:
    """Such a test names the extension, or its file is named after a measure or a substrate that computes."""
    contracts = [path for room in ("stats", "graph") for path in (ROOT / "cpp/include/netassay" / room).glob("*.hpp")]
    stems = re.compile(rf"test_({'|'.join([*MEASURES, *(path.stem for path in contracts)])})(_|$)")

    def of_the_core(path: Path, tree: ast.Module) -> bool:
        names = {getattr(node, "attr", getattr(node, "name", "")) for node in ast.walk(tree)}
        return stems.match(path.stem) is not None or bool({"_core", "netassay._core"} & names)

    def marked(tree: ast.Module) -> bool:
        return any(re.match(r"pytestmark = .*mark\.native", ast.unparse(node)) for node in tree.body)

    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in TESTS.rglob("test_*.py")}
    core = {path.name for path, tree in trees.items() if of_the_core(path, tree)}
    assert len(core) > 10
    assert set(UNSANITIZED) <= core
    assert core - {path.name for path, tree in trees.items() if marked(tree)} == set(UNSANITIZED)


# ---- sizes ----

#: Lines of a file at most. A longer one gives its reason in one of its first lines, after `long:` in a comment.
LINES_AT_MOST = {"python": 400, "cpp": 400, "tests": 800}
SUFFIXES = {".py", ".pyi", ".cpp", ".hpp", ".cu"}


@pytest.mark.parametrize("folder", LINES_AT_MOST)
def test_a_file_is_short_or_gives_its_reason(folder: str) -> None:
    files = [path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in SUFFIXES]
    assert len(files) > 50
    lines = {path: path.read_text(encoding="utf-8").splitlines() for path in files}
    long = {str(path.relative_to(ROOT)): text for path, text in lines.items() if len(text) > LINES_AT_MOST[folder]}
    reasons = [name for name, text in long.items() if any(re.match(r"(#|//) long: \w+", line) for line in text[:20])]
    assert sorted(set(long) - set(reasons)) == []
