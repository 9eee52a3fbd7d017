"""region_contrast by Triton's region means; what follows is on small grids and is torch's."""

from torch import Tensor
from torch.nn import functional

from zdce.kernels.region_means import region_means, region_means_backward


def region_contrast(enhanced: Tensor, image: Tensor, region: int, loss: Tensor, gaps: Tensor) -> None:
    """enhanced, image (B, 3, H, W); writes the loss () and the gaps (B, H // region, W // region)."""
    means = gaps.new_empty(gaps.shape)
    region_means(enhanced, region, gaps)
    region_means(image, region, means)
    gaps.sub_(means)
    # A difference of neighbours inside counts twice, one with the zeros around once.
    along_y, along_x = (each.square() for each in _differences(gaps))
    twice = along_y[:, 1:-1].sum() + along_x[:, :, 1:-1].sum()
    loss.copy_((along_y.sum() + along_x.sum() + twice) / gaps.numel())


def region_contrast_backward(
    grad: Tensor | None, gaps: Tensor, grad_gaps: Tensor | None, region: int, height: int, width: int, grad_image: Tensor
) -> None:
    """grad (), gaps and grad_gaps (B, height // region, width // region); writes grad_image (B, 3, height, width)."""
    slopes = gaps.new_zeros(gaps.shape) if grad_gaps is None else grad_gaps
    if grad is not None:
        along_y, along_x = _differences(gaps)
        along_y[:, 1:-1] *= 2
        along_x[:, :, 1:-1] *= 2
        pulls = (along_y[:, :-1] - along_y[:, 1:]) + (along_x[:, :, :-1] - along_x[:, :, 1:])
        slopes = slopes + grad * (2 / gaps.numel()) * pulls
    region_means_backward(slopes, region, height, width, grad_image)


def _differences(gaps: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbours along y (B, h + 1, w) and along x (B, h, w + 1), with zeros around the gaps (B, h, w)."""
    return functional.pad(gaps, (0, 0, 1, 1)).diff(dim=1), functional.pad(gaps, (1, 1)).diff(dim=2)
