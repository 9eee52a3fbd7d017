"""Memory that a process frees: kept, or given back for a while."""

import platform
import subprocess
import sys

import pytest

ARRAY = 256  # MiB

SCRIPT = """
import re, sys, numpy
from pathlib import Path
from zdce.runtime import allocator

def resident():
    return int(re.search(r"VmRSS:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

def growth():
    before = resident()
    numpy.ones(int(sys.argv[1]) * 2**20, numpy.uint8)
    return resident() - before

assert allocator.keep_freed_memory()
with allocator.memory_given_back():
    given_back = growth()
print(given_back, growth())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_freed_memory_is_given_back_where_asked_and_kept_otherwise():
    done = subprocess.run([sys.executable, "-P", "-c", SCRIPT, str(ARRAY)], capture_output=True, text=True, check=True)
    given_back, kept = map(float, done.stdout.split())
    assert given_back < ARRAY / 4
    assert kept > ARRAY * 3 / 4
