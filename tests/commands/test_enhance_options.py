"""Options of `zdce enhance` for files and programs: streams, formats, dry runs, reports, completion."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

import zdce
from zdce import cli
from zdce.enhancement import batch
from zdce.io import images
from zdce.runtime import progress
from zdce.runtime.processes import Ranks
from zdce.settings import EnhanceSettings

DARK = Path(__file__).resolve().parents[2] / "docs" / "dark.jpg"
PAGE = DARK.with_name("commands.md")


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A dark photograph of the documentation's in several formats, a lit picture, and one in a folder."""
    monkeypatch.chdir(tmp_path)
    with Image.open(DARK) as image:
        small = image.convert("RGB").resize((96, 64))
    for name in ("in/a.jpg", "in/b.png", "in/c.webp", "in/deep/d.tif"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        small.save(name)
    small.point([min(255, 100 + level) for level in range(256)] * 3).save("in/lit.jpg", quality=90)
    return tmp_path


def run(*arguments, **options):
    return CliRunner().invoke(cli.main, ["enhance", *map(str, arguments)], catch_exceptions=False, **options)


def sized(data):
    """The same picture with a resolution, which some formats have no place for."""
    encoded = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.save(encoded, "JPEG", dpi=(300, 300))
    return encoded.getvalue()


def brightness(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).mean()


def contents():
    return {path.as_posix(): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def test_a_lit_picture_is_copied_byte_for_byte_and_said_so(photos, model):
    arguments = ["in", "-o", "out", "-m", model, "--only-if-dark", "--manifest", "all.csv"]
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (0, "4 written, 1 already bright, copied\n")
    assert Path("out/lit.jpg").read_bytes() == Path("in/lit.jpg").read_bytes()
    assert brightness(Path("out/a.jpg").read_bytes()) > 1.5 * brightness(Path("in/a.jpg").read_bytes())
    assert "in/lit.jpg,out/lit.jpg,bright,\n" in Path("all.csv").read_text()
    zdce.enhance("in/lit.jpg", model, output="copy.jpg", only_if_dark=True)
    assert Path("copy.jpg").read_bytes() == Path("in/lit.jpg").read_bytes()
    # A network that knows no scenes brightens it, so the option is what left it alone.
    assert run("in/lit.jpg", "-o", "brighter.jpg", "-m", model).stdout == "1 written\nbrighter.jpg\n"
    assert brightness(Path("brighter.jpg").read_bytes()) > brightness(Path("in/lit.jpg").read_bytes()) + 5


def test_a_lit_picture_in_another_format_or_without_its_place_is_written_with_the_same_pixels(photos, model):
    for options, name in ((["--format", "png"], "lit.png"), (["--strip", "gps"], "lit.jpg")):
        result = run("in/lit.jpg", "-o", "out/", "-m", model, "--only-if-dark", *options)
        assert result.stdout == f"1 already bright, copied\nout/{name}\n"
    lit = np.asarray(Image.open("in/lit.jpg"))
    assert np.array_equal(np.asarray(Image.open("out/lit.png")), lit)
    assert np.abs(np.asarray(Image.open("out/lit.jpg")).astype(int) - lit).max() <= 3  # encoded twice with the same tables


@pytest.mark.parametrize("name", ["a.jpg", "b.png", "c.webp", "deep/d.tif"])
def test_standard_input_and_output_keep_the_format_of_the_content(photos, name):
    data = Path("in", name).read_bytes()
    result = run("-", "-o", "-", input=data)
    assert (result.exit_code, result.stderr) == (0, "")
    run(f"in/{name}", "-o", f"same{Path(name).suffix}")
    assert result.stdout_bytes == Path(f"same{Path(name).suffix}").read_bytes()


def test_a_stream_in_another_format_from_a_file_and_into_one(photos):
    data = Path("in/a.jpg").read_bytes()
    webp = run("-", "--format", "webp", input=data).stdout_bytes
    assert Image.open(io.BytesIO(webp)).format == "WEBP"
    assert run("in/a.jpg", "-o", "-", "--format", "webp").stdout_bytes == webp
    result = run("-", "-o", "out.webp", input=data)
    assert (result.stdout, Path("out.webp").read_bytes()) == ("1 written\nout.webp\n", webp)
    again = run("-", "-o", "out.webp", input=data)
    assert (again.exit_code, again.stdout) == (0, "1 kept as they were (--overwrite replaces them)\nout.webp\n")
    noted = run("-", "--format", "webp", input=sized(data)).stderr
    assert noted == "standard output.webp: the resolution left out: WEBP has no place for it\n"
    lit = Path("in/lit.jpg").read_bytes()
    assert run("-", "--only-if-dark", input=lit).stdout_bytes == lit


@pytest.mark.parametrize(
    ("arguments", "data", "code", "message"),
    [
        (["-"], b"", 1, "Error: standard input: expected a picture, got nothing"),
        (["-"], b"hello", 1, "Error: standard input: not a picture that can be read"),
        (["-"], DARK.read_bytes()[:2000], 1, "Error: standard input: image file is truncated"),
        (["-", "-o", "out"], b"", 1, "Error: out: standard input has no name; expected a file's name"),
        (["-", "-o", "o.png", "--format", "webp"], b"", 1, "Error: o.png: expected a name ending in .webp for the format WEBP"),
        (["-", "in/a.jpg"], b"", 2, "Error: - takes one picture, got 2 inputs"),
        (["in", "-o", "-"], b"", 1, "Error: in is a folder, and standard output takes one picture"),
        (["clip.mp4", "-o", "-"], b"", 1, "Error: clip.mp4 is a video, and standard output takes one picture"),
        (["-", "--json"], b"", 2, "Error: --json needs files, and - is standard input or output"),
    ],
)
def test_what_is_wrong_with_a_stream_is_one_line_on_stderr(photos, arguments, data, code, message):
    result = run(*arguments, input=data)
    assert (result.exit_code, result.stdout_bytes) == (code, b"")
    assert result.stderr.strip().splitlines()[-1].startswith(message)
    assert code == 2 or len(result.stderr.strip().splitlines()) == 1


def test_a_pipe_of_processes_and_one_that_closes(photos):
    """As a shell runs it: `zdce enhance - -o - < a.jpg | head -c 10`, with a result larger than a pipe holds."""
    Image.open("in/b.png").resize((900, 600)).save("large.png")
    command = [sys.executable, "-m", "zdce", "enhance", "-", "-o", "-", "--format", "bmp"]
    with Path("large.png").open("rb") as given:
        first = subprocess.Popen(command, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    head = first.stdout.read(10)
    first.stdout.close()
    told = first.stderr.read()
    first.stderr.close()
    assert (first.wait(60), told, head[:2]) == (1, b"", b"BM")


def shell(line):
    """The code, standard output and standard error of `zdce enhance LINE` as a shell runs it."""
    done = subprocess.run(f"{sys.executable} -m zdce enhance {line}", shell=True, capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr.decode()


def test_closed_streams_that_are_not_needed_change_no_result(photos):
    assert shell("in/a.jpg -o open.jpg") == (0, b"1 written\nopen.jpg\n", "")
    assert shell("in/a.jpg -o all.jpg <&- >&- 2>&-") == (0, b"", "")
    assert shell("in/a.jpg -o error.jpg 2>&-") == (0, b"1 written\nerror.jpg\n", "")
    assert shell("- --format png < in/a.jpg 2>&-")[1] == run("in/a.jpg", "-o", "-", "--format", "png").stdout_bytes
    assert Path("all.jpg").read_bytes() == Path("error.jpg").read_bytes() == Path("open.jpg").read_bytes()
    assert shell("none.jpg 2>&-") == (1, b"", "")


def test_no_file_gets_the_number_of_a_closed_stream(photos):
    """Where libraries would write their messages into it."""
    code = "import os, runpy, sys\nsys.argv = ['zdce', '--version']\ntry:\n    runpy.run_module('zdce', run_name='__main__')\n"
    code += "except SystemExit:\n    os._exit(os.open('in/a.jpg', os.O_RDONLY))"
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        assert subprocess.run(f'{sys.executable} -c "{code}" {closed}', shell=True, check=False).returncode > 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("- -o out.jpg <&-", "standard input is closed, and - needs it"),
        ("in/a.jpg -o - >&-", "standard output is closed, and - needs it"),
        ("in/a.jpg -o - > /dev/full", "standard output: No space left on device"),
    ],
)
def test_a_stream_that_can_not_be_used_is_named(photos, line, message):
    if "/dev/full" in line and not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    assert shell(line) == (1, b"", f"Error: {message}\n")
    assert not os.path.exists("out.jpg")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("--strength nan", 2),
        ("--strength=-inf", 2),
        ("--brightness nan", 2),
        ("--shadows nan", 2),
        ("--smoothing inf", 2),
        ("--noise 300", 2),
        ("--device nope", 2),
        ("--fast --scale 4", 2),
        ("-m nothing", 1),
        ("-m zero-dce --shadows 0.5", 1),
        ("-o x.txt", 1),
        ("--format webp -o x.png", 1),
    ],
)
def test_the_code_says_whether_an_option_is_wrong_by_itself(photos, arguments, code):
    before = contents()
    result = run("in/a.jpg", *arguments.split())
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert contents() == before


def test_a_format_for_all_and_names_that_collide(photos):
    before = contents()
    result = run("in", "-o", "out", "--format", "webp", "--no-recursive")
    assert (result.exit_code, sorted(os.listdir("out"))) == (0, ["a.webp", "b.webp", "c.webp", "lit.webp"])
    assert {path.read_bytes()[8:12] for path in Path("out").iterdir()} == {b"WEBP"}
    shutil.rmtree("out")
    shutil.copy("in/b.png", "in/a.png")
    collision = run("in", "-o", "out", "--format", "webp")
    assert collision.exit_code == 1
    assert collision.stderr == "Error: in/a.jpg and in/a.png would both become out/a.webp\n"
    Path("in/a.png").unlink()
    assert contents() == before


@pytest.mark.parametrize(
    ("name", "form", "written"),
    [
        ("a.jpeg", "jpeg", "a.jpeg"),
        ("a.PNG", "jpeg", "a.jpg"),
        ("a.dng", "png", "a.png"),
        ("IMG.2024", "avif", "IMG.2024.avif"),
    ],
)
def test_the_name_of_a_picture_in_a_format(photos, name, form, written):
    Path(name).write_bytes(b"")
    result = run(name, "-o", "out/", "--format", form, "--dry-run")
    assert result.stdout == f"{name} -> out/{written}\n1 would be written\n"


def test_a_dry_run_says_what_would_be_written_and_writes_nothing(photos):
    Path("out").mkdir()
    shutil.copy("in/b.png", "out/b.png")
    before = contents()
    result = run("in", "-o", "out", "--dry-run", "--manifest", "all.csv")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "in/a.jpg -> out/a.jpg",
        "in/c.webp -> out/c.webp",
        "in/deep/d.tif -> out/deep/d.tif",
        "in/lit.jpg -> out/lit.jpg",
        "in/b.png -> out/b.png: kept",
        "4 would be written, 1 would be kept",
    ]
    lines = [json.loads(line) for line in run("in", "-o", "out", "--dry-run", "--json").stdout.splitlines()]
    assert lines[-1] == {"summary": {"planned": 4, "kept": 1, "failed": 0, "unread": 0}}
    assert contents() == before


def test_json_lines_for_programs(photos):
    Path("in/broken.jpg").write_bytes(b"no picture")
    result = run("in", "-o", "out", "--json", "--only-if-dark", "--jobs", 2)
    assert result.exit_code == 1
    *rows, summary = map(json.loads, result.stdout.splitlines())
    assert {row["source"]: row["status"] for row in rows} == {
        "in/a.jpg": "written", "in/b.png": "written", "in/broken.jpg": "failed", "in/c.webp": "written",
        "in/deep/d.tif": "written", "in/lit.jpg": "bright",
    }  # fmt: skip
    assert [row["reason"] for row in rows if row["status"] == "failed"] == ["in/broken.jpg: not a picture that can be read"]
    assert summary == {"summary": {"written": 4, "bright": 1, "partly": 0, "kept": 0, "failed": 1, "unread": 0}}


def test_files_of_formats_that_are_not_read_are_counted_and_named(photos):
    for name in ("a.gif", "b.JXL", "c.cr3", "d.psd", "e.exr", "f.mxf", "g.txt", ".hidden.gif"):
        (photos / "in" / name).write_bytes(b"anything")
    result = run("in", "-o", "out")
    assert result.exit_code == 0
    assert result.stdout == "5 written, 6 of formats that are not read\n"
    named = "in/a.gif, in/b.JXL, in/c.cr3, in/d.psd, in/e.exr and 1 more"
    assert f"skipped {named}: these formats are not read\n" in result.stderr
    assert not [name for name in contents() if name.startswith("out/") and name.endswith((".gif", ".JXL"))]
    assert json.loads(run("in", "-o", "two", "--json").stdout.splitlines()[-1])["summary"]["unread"] == 6
    # One that is named is tried.
    assert "in/a.gif: not a picture that can be read" in run("in/a.gif", "-o", "x.png").stderr
    Path("only").mkdir()
    Path("only/a.gif").write_bytes(b"anything")
    result = run("only")
    assert result.exit_code == 1
    assert result.stderr.startswith("skipped only/a.gif: these formats are not read\nError: no pictures found: ")


def test_several_pictures_at_once_are_the_same_pictures(photos):
    for name, jobs in (("one", 1), ("three", 3)):
        assert run("in", "-o", name, "--jobs", jobs).stdout == "5 written\n"
    one, three = ({k.partition("/")[2]: v for k, v in contents().items() if k.startswith(name)} for name in ("one", "three"))
    assert one == three
    assert len(one) == 5


def test_help_shows_every_option_in_a_group():
    text = run("--help").stdout
    headings = [line for line in text.splitlines() if line.endswith(":") and line[:1].strip()]
    assert headings == ["Files:", "Brightness:", "How files are written:", "Speed:", "Reports:", "Options:"]
    assert text.partition("Options:\n")[2].strip() == "-h, --help  Show this message and exit."
    command = cli.COMMANDS["enhance"].load()
    assert [option for each in command.params for option in each.opts if option.startswith("--") and option not in text] == []


def test_words_are_completed():
    completion = ShellComplete(cli.main, {}, "zdce", "_ZDCE_COMPLETE")

    def completed(words, begun):
        return [item.value for item in completion.get_completions(words, begun)]

    assert completed([], "enh") == ["enhance"]
    assert completed(["enhance"], "--only") == ["--only-if-dark"]
    assert completed(["enhance", "--format"], "we") == ["webp"]
    assert [item.type for item in completion.get_completions(["enhance"], "in/")] == ["file"]


def test_bash_completes_what_the_documentation_says(photos):
    command = Path(sys.executable).with_name("zdce")
    if shutil.which("bash") is None or not command.is_file():
        pytest.skip("no bash on this machine, or zdce is not installed as a command")
    line = next(line for line in PAGE.read_text().splitlines() if "bash_source" in line)
    script = f'{line}; COMP_WORDS=(zdce enhance --only); COMP_CWORD=2; _zdce_completion zdce; echo "${{COMPREPLY[@]}}"'
    path = f"{command.parent}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    assert (done.stdout, done.stderr) == ("--only-if-dark\n", "")


def test_a_terminal_shows_how_many_files_are_done_and_the_time_left(photos, monkeypatch):
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=100, _environ={})
    monkeypatch.setattr(progress, "console", terminal)
    assert run("in", "-o", "out").exit_code == 0
    assert "5/5" in shown.getvalue()
    assert re.search(r"\d:\d\d:\d\d \S*0:00:00", re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown.getvalue()))


@pytest.mark.parametrize("jobs", [1, 2])
def test_who_stops_the_run_gets_whole_files_and_no_more_are_begun(photos, model, jobs):
    for name in "efghij":
        shutil.copy("in/a.jpg", f"in/{name}.jpg")
    planned = batch.plan(images.find(["in"]), "out/")
    work = batch.Work.of(zdce.load(model), EnhanceSettings())

    def interrupt(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch.run(planned, work, Ranks(), interrupt, at_once=jobs)
    written = [job.target for job in planned if job.target.exists()]
    assert 1 <= len(written) <= jobs
    stop = Event()
    counts = batch.run(planned, work, Ranks(), lambda row: stop.set(), at_once=jobs, stop=stop)
    assert 1 <= counts["written"] <= jobs
    assert {path.read_bytes()[:3] for path in written if path.suffix == ".jpg"} == {b"\xff\xd8\xff"}
