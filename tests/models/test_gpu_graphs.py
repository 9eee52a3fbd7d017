"""Graphs of repeated computations, with recordings in place of CUDA's; on a GPU tests/gpu/test_enhancing.py has them."""

import pytest
import torch

import zdce
from zdce.models import guided_scene
from zdce.models.gpu_graphs import GpuGraphs


@pytest.fixture
def graphs(cuda):
    return GpuGraphs(most=2)


def scene(seed, size=(40, 60)):
    """Dark, backlit, a night and lit, (1, 3, H, W)."""
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))
    return {
        0: image / 12,
        1: torch.cat([image[:, :, :20] / 15, 0.6 + image[:, :, 20:] / 3], 2),
        2: (image > 0.99) * image,
        3: image,
    }[seed % 4].contiguous()


def test_the_second_call_for_a_key_captures_and_later_ones_replay(cuda, graphs):
    for call in range(4):
        given = torch.full((3,), float(call))
        with graphs.result("key", lambda a, b: a + 2 * b, given, given + 1) as result:
            assert torch.equal(result, 3 * given + 2)
            done, cuda.log[:] = [*cuda.log], []
        captured = ["wait", "beside", "capture", "record"]
        assert done == [[], [*captured, "wait", "replay"], ["wait", "replay"], ["wait", "replay"]][call]
        assert cuda.log == ["record"] * (call > 0)  # until here the graph's memory is reserved
        cuda.log.clear()


def test_graphs_are_captured_in_one_stream_where_they_ran_before(cuda, graphs):
    seen = []

    def noted(given):
        seen.append(cuda.current_stream())
        return -given

    for key in "aabb":
        with graphs.result(key, noted, torch.ones(2)):
            pass
    first, before, capture = seen[:3]
    assert first is cuda.current_stream()
    assert before is capture is not first
    assert seen[3:] == seen[:3]


def test_graphs_of_the_last_keys_are_kept(cuda, graphs):
    def use(key):
        with graphs.result(key, torch.neg, torch.ones(2)) as result:
            assert torch.equal(result, -torch.ones(2))

    for key in "aabb":
        use(key)
    assert len(cuda.graphs) == 2
    use("a")
    for key in "cc":
        use(key)  # in place of b's
    use("a")
    assert len(cuda.graphs) == 3
    for made in (3, 4):  # b counts as new again
        use("b")
        assert len(cuda.graphs) == made


def test_without_a_key_nothing_is_captured(cuda, graphs):
    for _ in range(3):
        with graphs.result(None, torch.neg, torch.ones(2), prepare=torch.Tensor.double) as result:
            assert result.dtype == torch.float64
    assert cuda.graphs == []


def test_a_graph_is_released_where_its_user_fails(cuda, graphs):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), graphs.result("key", torch.neg, torch.ones(2)):
            raise ZeroDivisionError
    assert len(cuda.graphs) == 1
    assert cuda.log[-1] == "record"


@pytest.mark.parametrize("brightness", [0.38, 0.0])
@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_maps_of_any_scene_are_fitted_by_the_same_operations(cuda, graphs, backend, brightness):
    if reason := zdce.ops.dispatch.why_missing(backend):
        pytest.skip(f"{backend}: {reason}")

    def fit(small, maps):
        return guided_scene.fit(small, maps, 8, brightness, 0.3, 0.9)

    changes = []
    with zdce.backend(backend):
        for seed in range(9):
            small = scene(seed)
            maps = -torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(seed))
            with graphs.result("scene", fit, small, maps) as found:
                assert torch.equal(found, fit(small, maps))
                changes.append(found.abs().max().item())
    assert len(cuda.graphs) == 1
    assert max(changes) > 0.1
