"""`zdce bench threads`: measured tiles of the engine's own plan, distributed among simulated threads."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from zdce import cli
from zdce.bench import threads
from zdce.models import stored
from zdce.models.engine import Engine, PixelSettings


def test_tiles_make_the_picture():
    engine = Engine(stored.read("base"))
    picture = np.random.default_rng(0).integers(0, 256, (150, 333, 3), np.uint8)
    result = np.zeros_like(picture)
    tiles = engine.plan(150, 333, 7)
    assert len(tiles) > 1
    for tile in tiles:
        engine.run_tile(picture, tile, result)
    assert np.array_equal(result, engine.enhance(picture, PixelSettings()))


@pytest.mark.parametrize("tile", [(2, 8, 0, 8), (0, 8, 0, 401), (8, 8, 0, 8), (-4, 8, 0, 8)], ids=str)
def test_tiles_elsewhere_are_refused(tile):
    picture = np.zeros((300, 400, 3), np.uint8)
    with pytest.raises(ValueError, match="tile must lie in the picture, and begin at multiples of 4"):
        Engine(stored.read("base")).run_tile(picture, tile, picture.copy())


def test_predictions_of_a_small_picture(monkeypatch):
    monkeypatch.setattr(threads, "THREADS", (1, 4))
    result = CliRunner().invoke(cli.main, ["bench", "threads", "-m", "base", "--size", "VGA", "--json"], catch_exceptions=False)
    rows = {(row["threads"], row["metric"]): row["value"] for row in json.loads(result.stdout)}
    assert rows[1, "efficiency"] == 1
    assert 0.4 < rows[4, "efficiency"] < 1.6
    assert rows[1, "tiles"] < rows[4, "tiles"]
