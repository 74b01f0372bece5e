"""The rules of the house: which way imports go, where hooks are registered, how long a file gets, what lies where."""

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("interp", "training", "analyses")
LINES = {"packages": 320, "tests": 450}  # a test file carries its fixtures and its tables of cases as well

TOP_LEVEL = {
    *PACKAGES,
    "notebooks",
    "tests",
    ".ci",
    ".gitignore",
    "LICENSE",
    "Makefile",
    "README.md",
    "constraints.txt",
    "pyproject.toml",
}

# slow to import or optional at the edge: only ever imported inside a function
HEAVY = {"peft", "transformer_lens", "sae_lens", "nnsight", "sklearn", "scipy", "plotly"}

# folders of one machine, and what would tie an install to one host; written so that this file doesn't contain them
MACHINE = re.compile(rb"(?<![\w.~}>])/(?:work|tmp|root|home|opt|mnt|srv|scratch|Users)/\w")
REGISTRY = re.compile(rb"py[p]i\.|python[h]osted|download\.py[t]orch|anacond[a]\.org|index[-_]ur[l]|find[-_]link[s]")


def files() -> list[Path]:
    """Everything that is in version control or about to be, relative to the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout, so there is no telling the project's files from others")
    return [path for name in listing.stdout.decode().split("\0") if name and (ROOT / (path := Path(name))).is_file()]


def sources(*packages: str) -> Iterator[tuple[Path, ast.Module]]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import in a tree, relative ones resolved; `from a import b` gives a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(path.parts[: len(path.parts) - node.level]) if node.level else ""
            module = ".".join(part for part in (above, node.module) if part)
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def at_import(tree: ast.Module) -> ast.Module:
    """The tree without function bodies and without `if TYPE_CHECKING`: what runs when the module is imported."""

    class Bare(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

        def visit_If(self, node: ast.If) -> ast.If | None:
            return None if "TYPE_CHECKING" in ast.unparse(node.test) else node

    return Bare().visit(tree)


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("interp", {"training", "analyses", "notebooks", "tests"}),
        ("training", {"analyses", "notebooks", "tests"}),
        ("analyses", {"notebooks", "tests"}),
    ],
)
def test_imports_go_one_way(package, forbidden):
    wrong = [
        f"{path}:{line} imports {name}"
        for path, tree in sources(package)
        for line, name in imports(path, tree)
        if name.partition(".")[0] in forbidden
    ]
    assert not wrong


def test_one_analysis_does_not_import_another():
    from analyses.experiments import EXPERIMENTS

    analyses = {module.split(".")[1] for module in EXPERIMENTS.values()}
    folders = {readme.parent.name for readme in (ROOT / "analyses").glob("*/README.md")}
    assert analyses <= folders, "every analysis has a README in its folder"
    wrong = [
        f"{path}:{line} imports {name}"
        for path, tree in sources("analyses")
        for line, name in imports(path, tree)
        if name.startswith("analyses.") and name.split(".")[1] in folders - {path.parts[1]}
    ]
    assert not wrong


def test_hooks_are_registered_in_one_place():
    registers = re.compile(r"\.register_(?:module_)?(?:forward|full_backward|backward)\w*hook|\.register_hook")
    found = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if registers.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"interp/hooks.py"}


def test_slow_libraries_are_imported_inside_functions():
    wrong = [
        f"{path}:{line} imports {name}"
        for path, tree in sources(*PACKAGES)
        for line, name in imports(path, at_import(tree))
        if name.partition(".")[0] in HEAVY
    ]
    assert not wrong


def test_annotations_with_shapes_are_not_strings():
    # under this import annotations are strings, and jaxtyping can't see that they hold shapes
    wrong = [
        f"{path}:{line}"
        for path, tree in sources(*PACKAGES)
        for line, name in imports(path, tree)
        if name == "__future__.annotations" and any(other.startswith("jaxtyping.") for _, other in imports(path, tree))
    ]
    assert not wrong


def test_no_bare_except():
    wrong = [
        f"{path}:{node.lineno}"
        for path, tree in sources(*PACKAGES, "tests")
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert not wrong


def test_modules_functions_and_classes_have_docstrings():
    wrong = [
        f"{path}:{getattr(node, 'lineno', 1)} {getattr(node, 'name', 'the module')}"
        for path, tree in sources("interp", "training")
        if tree.body
        for node in [tree, *tree.body]
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef))
        and not getattr(node, "name", "public").startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not wrong


def test_python_files_stay_short():
    long = {
        str(path): count
        for path in files()
        if path.suffix == ".py"
        and (count := len((ROOT / path).read_text(encoding="utf-8").splitlines()))
        > LINES["packages" if path.parts[0] in PACKAGES else "tests"]
    }
    assert not long, f"over {LINES} lines: a noun is hiding there"


def test_nothing_names_a_machine_or_a_registry():
    wrong = []
    for path in files():
        content = (ROOT / path).read_bytes()
        if path.suffix == ".safetensors":
            content = content[: 8 + int.from_bytes(content[:8], "little")]  # the header; the rest is numbers
        for pattern in (MACHINE, REGISTRY):
            if found := pattern.search(content):
                line = content.count(b"\n", 0, found.start()) + 1
                wrong.append(f"{path}:{line} {found[0].decode(errors='replace')}")
    assert not wrong


def test_top_level_is_as_agreed():
    assert {path.parts[0] for path in files()} == TOP_LEVEL


def test_facts_load():
    found = sorted((ROOT / "training/world/facts").rglob("*.json"))
    assert found

    def unique(pairs):
        keys = [key for key, _ in pairs]
        assert len(set(keys)) == len(keys), f"{path}: a key occurs twice among {keys}"
        return dict(pairs)

    for path in found:
        assert json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique), f"{path} is empty"
