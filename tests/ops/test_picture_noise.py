"""picture_noise on every backend against the float64 reference; tests/models/test_noise.py says what it finds in pictures."""

import pytest
import torch

import zdce
from cases import nan_filled_allocations
from zdce import interleaved, reference
from zdce.noise_constants import BLOCK_SIDE, block_distances

DTYPES = [torch.uint8, torch.uint16, torch.float32]


def drawn(size, dtype, deviation=3.0):
    """From below black to above white, with noise of that deviation in levels of 255."""
    random = torch.Generator().manual_seed(sum(size))
    ramp = torch.linspace(-20, 290, size[1])[:, None] + deviation * torch.randn(*size, 3, generator=random)
    return (ramp.clamp(0, 255) * interleaved.WHITE[dtype] / 255).to(dtype)


def check(picture, least=0.0):
    with nan_filled_allocations():
        got = zdce.ops.picture_noise(picture, least)
    assert (got.shape, got.dtype, got.device) == ((2,), torch.float64, picture.device)
    # Sums of 192 squares in float32, whose difference is small where texture is strong.
    torch.testing.assert_close(got.cpu(), reference.picture_noise(picture.cpu(), least), rtol=1e-4, atol=1e-6)
    return got


@pytest.mark.parametrize("size", [(15, 90), (16, 16), (40, 33), (90, 331), (352, 339), (700, 420)], ids=str)
def test_every_size(backend, device, size):
    if backend == "triton" and device == "cpu" and size == (700, 420):
        pytest.skip("too slow in Triton's interpreter")
    with zdce.backend(backend):
        got = check(drawn(size, torch.uint8).to(device))
    if min(size) >= 90:
        assert got.min() > 1 / 255


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_types_and_the_least(backend, device, dtype):
    picture = drawn((150, 131), dtype).to(device)
    with zdce.backend(backend):
        noise, grain = check(picture)
        assert torch.equal(zdce.ops.picture_noise(picture, 0.25), torch.stack([torch.full_like(noise, 0.25), grain]))
        check(torch.zeros_like(picture), 1.5 / 255)


def test_rows_that_lie_apart_and_any_strides(backend, device):
    picture = drawn((150, 131), torch.uint8).to(device)
    with zdce.backend(backend):
        check(picture[3:140, 5:128])
        check(picture.transpose(0, 1))


def test_of_equal_blocks_a_fifth_counts(backend, device):
    # Of 400 equal ones a fifth is chosen, neither more nor less, and its mean is that of any of them.
    tile = 40 + 20 * torch.rand(16, 16, 3, generator=torch.Generator().manual_seed(0))
    with zdce.backend(backend):
        check(tile.repeat(20, 20, 1).to(torch.uint8).to(device))


def test_a_pattern_of_pixels_is_bounded(backend, device):
    checks = (torch.arange(200)[:, None] + torch.arange(200)) % 2 * 100 + 50
    with zdce.backend(backend):
        got = check(checks[..., None].expand(-1, -1, 3).to(torch.uint8).contiguous().to(device))
    torch.testing.assert_close(got.cpu(), torch.full((2,), 10 / 255, dtype=torch.float64))


def test_blocks_that_are_nan_do_not_count(backend, device):
    picture = drawn((200, 220), torch.float32)
    picture[:, :40] = float("nan")
    with zdce.backend(backend):
        got = check(picture.to(device))
    assert got.isfinite().all()


def test_there_are_never_more_blocks_than_the_kernel_takes():
    pytest.importorskip("triton", reason="triton is not installed")
    from zdce.kernels.picture_noise import BLOCKS

    most = max((side - BLOCK_SIDE) // block_distances(side, side)[0] + 1 for side in range(BLOCK_SIDE, 20_000))
    assert most**2 <= BLOCKS


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "picture must be a torch.Tensor, got list", ([0],)),
        (TypeError, "picture must be uint8, uint16 or float32, got torch.float64", (torch.zeros(20, 20, 3).double(),)),
        (ValueError, r"picture must be \(H, W, 3\) with H and W at least 1, got \(3, 20, 20\)", (torch.zeros(3, 20, 20),)),
        (ValueError, "least must be at least 0 and below 1, got -0.1", (torch.zeros(20, 20, 3), -0.1)),
        (ValueError, "least must be at least 0 and below 1, got 1", (torch.zeros(20, 20, 3), 1)),
        (ValueError, "least must be at least 0 and below 1, got nan", (torch.zeros(20, 20, 3), float("nan"))),
        (ValueError, "picture must not require a gradient", (torch.zeros(20, 20, 3, requires_grad=True),)),
    ],
)
def test_arguments_are_checked(error, message, arguments):
    with pytest.raises(error, match=message):
        zdce.ops.picture_noise(*arguments)


def test_opcheck():
    torch.library.opcheck(torch.ops.zdce.picture_noise.default, (drawn((60, 70), torch.uint8), 0.01))
