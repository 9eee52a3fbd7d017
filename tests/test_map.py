"""Packages import only those below them in CONTRIBUTING's map, and there are no circles of imports."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Installed as zdce.kernels and zdce.bench.
FOLDERS = {"zdce": ROOT / "zdce", "zdce.kernels": ROOT / "kernels", "zdce.bench": ROOT / "bench"}


def _name(prefix, folder, path):
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join([prefix, *(parts[:-1] if parts[-1] == "__init__" else parts)])


SOURCES = {_name(prefix, folder, path): path for prefix, folder in FOLDERS.items() for path in sorted(folder.rglob("*.py"))}


def _package(module, level):
    """What ``level`` dots stand for in a module; empty without dots."""
    inside = module if SOURCES[module].name == "__init__.py" else module.rpartition(".")[0]
    return ".".join(inside.split(".")[: len(inside.split(".")) - level + 1]) if level else ""


@cache
def imports(module):
    """The modules of zdce that a module imports anywhere: in functions and for types too, and kernels by their names."""
    found = set()
    for node in ast.walk(ast.parse(SOURCES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr) and getattr(node.values[0], "value", None) == "zdce.kernels.":
            found |= {name for name in SOURCES if name.startswith("zdce.kernels.")}
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            place = ".".join(filter(None, (_package(module, node.level), node.module)))
            whole = {f"{place}.{name.name}" for name in node.names}
            found |= {name if name in SOURCES else place for name in whole}
    return frozenset(found & SOURCES.keys()) - {module}


def room(module):
    """The package, or the module beside the packages, that a module belongs to."""
    return ".".join(module.split(".")[:2])


@cache
def rooms():
    """The rooms that each room imports."""
    graph = {}
    for module in SOURCES:
        graph.setdefault(room(module), set()).update(room(other) for other in imports(module))
    return {one: others - {one} for one, others in graph.items()}


def test_no_module_imports_itself_by_way_of_others():
    # A package's __init__.py hands the names of its modules on, and some of its modules import the package.
    graph = {module: {other for other in imports(module) if SOURCES[other].name != "__init__.py"} for module in SOURCES}
    assert len(list(TopologicalSorter(graph).static_order())) == len(SOURCES)


def test_the_numbers_of_the_map_are_those_of_the_imports():
    levels = {}
    for one in TopologicalSorter(rooms()).static_order():  # raises CycleError at a circle
        levels[one] = 1 + max((levels[below] for below in rooms()[one]), default=0)
    # Without the benchmarks beside the packages; the start of the command line is above all levels.
    counted = {one: others - {"zdce.bench"} for one, others in rooms().items() if one != "zdce.bench"}
    highest = max(levels[one] for one in counted.keys() - {"zdce.__main__"})
    packages, arrows = len(lines_of_the_map()[1]), sum(map(len, counted.values()))
    numbers = packages, len(counted) - packages, highest, arrows
    words = "The {} packages and the {} modules beside them are on {} levels, with {} imports between them".format(*numbers)
    assert words in " ".join((ROOT / "CONTRIBUTING.md").read_text().split())
    assert highest <= 9


def lines_of_the_map():
    """The packages in each line of the map, from the top."""
    drawn = re.search(r"^```\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE)[1]
    packages = {room(module) for module, path in SOURCES.items() if path.name == "__init__.py"} - {"zdce", "zdce.bench"}
    folders = {name.removeprefix("zdce.") for name in packages}
    lines = [folders & set(re.findall(r"([a-z]+)/", line)) for line in drawn.splitlines()]
    return [line for line in lines if line], folders


def test_packages_import_only_those_below_them_in_the_map():
    lines, folders = lines_of_the_map()
    place = {f"zdce.{name}": number for number, line in enumerate(lines) for name in line}
    assert set(place) == {f"zdce.{name}" for name in folders}
    upward = [(one, other) for one in place for other in rooms()[one] & place.keys() if place[other] <= place[one]]
    assert upward == []
    # What stands beside the packages and below all of them imports none.
    below = "settings", "errors", "compiled", "backends", "srgb", "scene_constants", "noise_constants", "interleaved", "version"
    assert not [name for name in below if rooms()[f"zdce.{name}"] & place.keys()]


def test_the_map_sees_that_operations_reach_their_kernels_by_name():
    assert "zdce.kernels.apply_curve" in imports("zdce.ops.dispatch")
