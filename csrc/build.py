"""Builds the extensions: the core once for all that link it, loudly where a compiler fails.

Without any compiler the installation goes on without them, and ``zdce/_not_built.txt`` holds the reason, for ``zdce info``.
"""

import os
import shlex
import shutil
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension
from setuptools.errors import CompileError, ExecError, LinkError

from csrc.cuda.build import BuildExtensions as BuildCudaExtensions

_LAUNCHERS = ("ccache", "distcc", "sccache")
_CLANG_CL = "clang-cl"  # Clang with MSVC's options; MSVC itself lacks the vector types of the kernels.

_FAILED = """
zdce's C++ kernels did not compile: what {compiler!r} says of them stands above.
  * GCC and Clang build them, from 11 and 14 on: CC=gcc-12 CXX=g++-12 pip install ...
  * ZDCE_CPP=0 pip install ... installs zdce without them; it then runs on PyTorch alone, several times slower.
"""


def _missing_compiler() -> str | None:
    """Why there is no C++ compiler here; None if there is one."""
    command = _CLANG_CL if sys.platform == "win32" else os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++"
    words = [word for word in shlex.split(command) if not word.startswith("-")]
    program = next((word for word in words if Path(word).name not in _LAUNCHERS), command)
    return None if shutil.which(program) else f"no C++ compiler was found when zdce was installed ({program!r} is not there)"


class BuildExtensions(BuildCudaExtensions):
    """setuptools' command, for extensions that may share sources: ``Extension.core_sources``."""

    def run(self) -> None:
        record = self._package_folder() / "_not_built.txt"
        record.unlink(missing_ok=True)
        if self.extensions and (reason := _missing_compiler()):
            print(f"\nWARNING: {reason}: zdce is installed without its C++ kernels.\n", file=sys.stderr)  # noqa: T201
            record.parent.mkdir(parents=True, exist_ok=True)
            record.write_text(reason + "\n")
            self.extensions = []
        self._core: list[str] = []
        super().run()

    def _package_folder(self) -> Path:
        in_place = self.inplace or getattr(self, "editable_mode", False)
        return Path("zdce") if in_place else Path(self.build_lib, "zdce")

    def get_ext_filename(self, fullname: str) -> str:
        # The C interface's library is for other programs, not for Python.
        name = super().get_ext_filename(fullname)
        return str(Path(name).with_name("libzdce.so")) if fullname.rsplit(".", maxsplit=1)[-1] == "libzdce" else name

    def build_extensions(self) -> None:
        if self.compiler.compiler_type == "msvc":
            self.compiler.initialize()
            self.compiler.cc = shutil.which(_CLANG_CL)
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        try:
            if sources := getattr(ext, "core_sources", ()):
                self._core = self._core or self._compiled(ext, sources)
                ext.extra_objects = [*ext.extra_objects, *self._core]
            super().build_extension(ext)
        except (CompileError, ExecError, LinkError):
            compiler = _CLANG_CL if self.compiler.compiler_type == "msvc" else self.compiler.compiler_so[0]
            print(_FAILED.format(compiler=compiler), file=sys.stderr)  # noqa: T201
            raise

    def _compiled(self, ext: Extension, sources: list[str]) -> list[str]:
        """The object files of ``sources``, several compiled at a time: those of the instruction sets take long."""

        def compile_one(source: str) -> list[str]:
            return self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                macros=ext.define_macros,
                debug=self.debug,
                extra_postargs=ext.extra_compile_args,
                depends=ext.depends,
            )

        with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()) as pool:
            return [built for objects in pool.map(compile_one, sources) for built in objects]
