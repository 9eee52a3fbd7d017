"""Ray Data's actors, on a local cluster, have the results of this process."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

import zdce
from zdce.enhancement import ray_data

pytestmark = [
    pytest.mark.filterwarnings("default"),  # Ray's own, of its worker processes and their pipes
    pytest.mark.heavy,  # a cluster; test_docs.py starts one for the page's code
]


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    yield ray
    ray.shutdown()


def brightening():
    network = zdce.DCENet("iters4")
    network.convolutions[-1].bias.data.fill_(-0.3)
    return network


def test_files_and_pictures_come_out_as_here(cluster, tmp_path):
    network = brightening()
    network.save(tmp_path / "net.safetensors")
    random = np.random.default_rng(0)
    pictures = {f"{i}.png": random.integers(0, 60, (20 + i, 30, 3), np.uint8) for i in range(6)}
    (tmp_path / "in").mkdir()
    for name, picture in pictures.items():
        Image.fromarray(picture).save(tmp_path / "in" / name)
    (tmp_path / "in" / "broken.png").write_text("broken")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "5.png").write_text("mine")
    pool = {"compute": cluster.data.ActorPoolStrategy(size=1), "num_cpus": 1}

    jobs = ray_data.files([str(tmp_path / "in")], str(tmp_path / "out"))
    rows = ray_data.enhance_files(jobs, tmp_path / "net.safetensors", **pool).take_all()
    assert Counter(row["status"] for row in rows) == {"written": 5, "kept": 1, "failed": 1}
    assert [row["source"] for row in rows if "in/broken.png" in row["reason"]] == [str(tmp_path / "in" / "broken.png")]
    assert (tmp_path / "out" / "5.png").read_text() == "mine"

    read = cluster.data.from_items([{"name": name, "image": picture} for name, picture in pictures.items()])
    enhanced = {row["name"]: row["image"] for row in ray_data.enhance_images(read, network, **pool).take_all()}
    here = zdce.Enhancer(network)
    for name, picture in pictures.items():
        assert np.array_equal(enhanced[name], here(picture))
        if name != "5.png":
            with Image.open(tmp_path / "out" / name) as file:
                assert np.array_equal(file, enhanced[name])
