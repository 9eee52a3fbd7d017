// The objective's kernels as operators of torch.

#include <optional>

#include "launch.cuh"
#include "objective.cuh"

namespace zdce::cuda {
namespace operators {  // of which one is named as a kernel is
namespace {

Planes image_view(const Tensor& tensor, const char* name, const Tensor& image, int64_t channels) {
  return view(tensor, name, image,
              {{image.size(0), &Planes::batch},
               {channels, &Planes::channel},
               {image.size(2), &Planes::row},
               {image.size(3), &Planes::pixel}});
}

// tensor: float32, contiguous and of `shape`, on image's device; one of the scalars, or of what is made of pixels.
float* statistic(const Tensor& tensor, const char* name, const Tensor& image, std::initializer_list<int64_t> shape) {
  bool same = tensor.dim() == static_cast<int64_t>(shape.size()) && tensor.is_contiguous();
  std::string expected;
  for (int64_t d = 0; const int64_t size : shape) {
    same = same && tensor.size(d) == size;
    expected += (d++ == 0 ? "" : ", ") + std::to_string(size);
  }
  if (!same || type_of(tensor, name) != Type::kFloat || !tensor.is_cuda() ||
      tensor.get_device_index() != image.get_device_index()) {
    refuse(std::string(name) + " must be contiguous float32 (" + expected + ") on the image's CUDA device");
  }
  return static_cast<float*>(tensor.data_ptr());
}

ObjectiveShape objective_shape(const Tensor& image, const Tensor& logits, int64_t iterations) {
  if (image.dim() != 4 || logits.dim() != 4) refuse("image and logits must be of shape (B, C, H, W)");
  check_steps(logits.size(1), iterations);
  return {image.size(0), image.size(2), image.size(3), static_cast<int>(iterations), logits.size(1) == 3};
}

ObjectiveSettings objective_settings(double along_y, double along_x, double illumination, double spatial, double color,
                                     double exposure, double target) {
  return {static_cast<float>(along_y), static_cast<float>(along_x), static_cast<float>(illumination),
          static_cast<float>(spatial), static_cast<float>(color),   static_cast<float>(exposure),
          static_cast<float>(target)};
}

void objective(const Tensor image, const Tensor logits, int64_t iterations, double along_y, double along_x,
               double illumination, double spatial, double color, double exposure, double target, const Tensor total,
               const Tensor illumination_term, const Tensor spatial_term, const Tensor color_term,
               const Tensor exposure_term, const Tensor enhanced_regions, const Tensor gaps,
               const Tensor channel_means) {
  const ObjectiveShape shape = objective_shape(image, logits, iterations);
  const RegionGrid grid = grid_of(shape);
  const Launch launch(image);
  ObjectiveForward o{image_view(image, "image", image, 3), image_view(logits, "logits", image, logits.size(1)),
                     objective_settings(along_y, along_x, illumination, spatial, color, exposure, target)};
  o.scalars[0] = statistic(total, "total", image, {});
  o.scalars[1] = statistic(illumination_term, "illumination_term", image, {});
  o.scalars[2] = statistic(spatial_term, "spatial_term", image, {});
  o.scalars[3] = statistic(color_term, "color_term", image, {});
  o.scalars[4] = statistic(exposure_term, "exposure_term", image, {});
  o.enhanced_regions = statistic(enhanced_regions, "enhanced_regions", image, {grid.batch, grid.down, grid.across});
  o.gaps = statistic(gaps, "gaps", image, {grid.batch, grid.down, grid.across});
  o.channel_means = statistic(channel_means, "channel_means", image, {grid.batch, 3});
  // Given back when this function returns: torch gives it to nobody but later work of the same stream.
  const int64_t sums = objective_sums(shape), partials = objective_partials(shape);
  const Tensor workspace = torch::stable::new_empty(total, {2 * sums + partials + 1});
  o.sums = static_cast<double*>(workspace.data_ptr());
  o.partials = static_cast<float*>(workspace.data_ptr()) + 2 * sums;
  o.arrived = reinterpret_cast<unsigned*>(o.partials + partials);
  launch_objective(launch, o, shape);
}

void objective_backward(const std::optional<Tensor> grad_total, const std::optional<Tensor> grad_illumination,
                        const std::optional<Tensor> grad_spatial, const std::optional<Tensor> grad_color,
                        const std::optional<Tensor> grad_exposure, const Tensor enhanced_regions, const Tensor gaps,
                        const Tensor channel_means, const Tensor image, const Tensor logits, int64_t iterations,
                        double along_y, double along_x, double illumination, double spatial, double color,
                        double exposure, double target, const Tensor grad_logits) {
  const ObjectiveShape shape = objective_shape(image, logits, iterations);
  const RegionGrid grid = grid_of(shape);
  const Launch launch(image);
  ObjectiveBackward o{image_view(image, "image", image, 3), image_view(logits, "logits", image, logits.size(1)),
                      image_view(grad_logits, "grad_logits", image, logits.size(1)),
                      objective_settings(along_y, along_x, illumination, spatial, color, exposure, target)};
  if (o.grad_logits.type != o.logits.type) refuse("grad_logits must have the type of logits");
  const auto scalar = [&](const std::optional<Tensor>& grad, const char* name) -> const float* {
    return grad ? statistic(*grad, name, image, {}) : nullptr;
  };
  o.grads[0] = scalar(grad_total, "grad_total");
  o.grads[1] = scalar(grad_illumination, "grad_illumination");
  o.grads[2] = scalar(grad_spatial, "grad_spatial");
  o.grads[3] = scalar(grad_color, "grad_color");
  o.grads[4] = scalar(grad_exposure, "grad_exposure");
  o.enhanced_regions = statistic(enhanced_regions, "enhanced_regions", image, {grid.batch, grid.down, grid.across});
  o.gaps = statistic(gaps, "gaps", image, {grid.batch, grid.down, grid.across});
  o.channel_means = statistic(channel_means, "channel_means", image, {grid.batch, 3});
  const Tensor workspace = torch::stable::new_empty(gaps, {grid.regions() + 3 * grid.batch + 2});
  o.grad_regions = static_cast<float*>(workspace.data_ptr());
  o.grad_channels = o.grad_regions + grid.regions();
  o.grad_tv = o.grad_channels + 3 * grid.batch;
  launch_objective(launch, o, shape);
}

}  // namespace
}  // namespace operators
}  // namespace zdce::cuda

STABLE_TORCH_LIBRARY_IMPL(zdce_cuda, CUDA, m) {
  m.impl("objective", TORCH_BOX(&zdce::cuda::operators::objective));
  m.impl("objective_backward", TORCH_BOX(&zdce::cuda::operators::objective_backward));
}
