"""Optional packages."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from zdce.errors import InputError
from zdce.runtime import packages

ROOT = Path(__file__).parents[2]


def test_an_installed_package_is_imported():
    packages.require("json.decoder", extra="video")
    assert packages.missing("json.decoder", extra="video") is None


def test_all_absent_packages_are_named_with_their_purpose_and_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "json", None)
    expected = "json and no_such_package are needed for ONNX files: pip install 'zdce[export]'"
    assert packages.missing("json.decoder", "re", "no_such_package", extra="export") == expected
    with pytest.raises(InputError, match=f"^{re.escape(expected)}$"):
        packages.require("json.decoder", "re", "no_such_package", extra="export")


def test_a_broken_package_is_named_with_its_error(monkeypatch, tmp_path):
    (tmp_path / "broken_package.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    message = "broken_package is needed for videos and can't be imported (No module named 'no_such_package'): pip install"
    with pytest.raises(InputError, match=re.escape(message)):
        packages.require("broken_package", extra="video")


def test_every_extra_that_code_names_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    sources = [*(ROOT / "zdce").rglob("*.py"), *(ROOT / "bench").glob("*.py")]
    named = {extra for source in sources for extra in re.findall(r'extra="(\w+)"', source.read_text())}
    named.remove("forbid")  # pydantic's, of a model's other fields
    assert named == set(packages._PURPOSES)
    assert named <= set(extras)


def test_no_other_code_tells_how_to_install_an_extra():
    sources = [*(ROOT / "zdce").rglob("*.py"), *(ROOT / "bench").glob("*.py")]
    assert [source.name for source in sources if "pip install 'zdce[" in source.read_text()] == ["packages.py"]
