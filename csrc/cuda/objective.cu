// The objective's single pass as operators of torch.

#include "launch.cuh"
#include "objective.cuh"

namespace zdce::cuda {
namespace {

Planes image_view(const Tensor& tensor, const char* name, const Tensor& image, int64_t channels) {
  return view(tensor, name, image,
              {{image.size(0), &Planes::batch},
               {channels, &Planes::channel},
               {image.size(2), &Planes::row},
               {image.size(3), &Planes::pixel}});
}

// Of a float32 tensor of statistics.
Planes grid_view(const Tensor& tensor, const char* name, const Tensor& image, std::initializer_list<Axis> axes) {
  const Planes planes = view(tensor, name, image, axes);
  if (planes.type != Type::kFloat) refuse(std::string(name) + " must be float32");
  return planes;
}

Planes regions_view(const Tensor& tensor, const char* name, const Tensor& image) {
  return grid_view(tensor, name, image,
                   {{image.size(0), &Planes::batch},
                    {image.size(2) / kRegion, &Planes::row},
                    {image.size(3) / kRegion, &Planes::pixel}});
}

Planes channels_view(const Tensor& tensor, const char* name, const Tensor& image) {
  return grid_view(tensor, name, image, {{image.size(0), &Planes::batch}, {3, &Planes::channel}});
}

Planes tv_view(const Tensor& tensor, const char* name, const Tensor& image) {
  return grid_view(tensor, name, image, {{2, &Planes::pixel}});
}

ObjectiveShape objective_shape(const Tensor& image, const Tensor& logits, int64_t iterations) {
  if (image.dim() != 4 || logits.dim() != 4) refuse("image and logits must be of shape (B, C, H, W)");
  check_steps(logits.size(1), iterations);
  return {image.size(0), image.size(2), image.size(3), static_cast<int>(iterations), logits.size(1) == 3};
}

void objective_statistics(const Tensor image, const Tensor logits, int64_t iterations, const Tensor enhanced_regions,
                          const Tensor image_regions, const Tensor channel_means, const Tensor tv_sums) {
  const ObjectiveShape shape = objective_shape(image, logits, iterations);
  ObjectiveForward o;
  o.image = image_view(image, "image", image, 3);
  o.logits = image_view(logits, "logits", image, logits.size(1));
  o.enhanced_regions = regions_view(enhanced_regions, "enhanced_regions", image);
  o.image_regions = regions_view(image_regions, "image_regions", image);
  o.channel_means = channels_view(channel_means, "channel_means", image);
  o.tv_sums = tv_view(tv_sums, "tv_sums", image);
  // Given back when this function returns: torch gives it to nobody but later work of the same stream.
  const Tensor partials = torch::stable::new_empty(tv_sums, {objective_partials(shape)});
  o.partials = static_cast<float*>(partials.data_ptr());
  launch_objective(Launch(image), o, shape);
}

void objective_statistics_backward(const Tensor grad_regions, const Tensor grad_channels, const Tensor grad_tv,
                                   const Tensor image, const Tensor logits, int64_t iterations,
                                   const Tensor grad_logits) {
  const ObjectiveShape shape = objective_shape(image, logits, iterations);
  ObjectiveBackward o;
  o.grad_regions = regions_view(grad_regions, "grad_regions", image);
  o.grad_channels = channels_view(grad_channels, "grad_channels", image);
  o.grad_tv = tv_view(grad_tv, "grad_tv", image);
  o.image = image_view(image, "image", image, 3);
  o.logits = image_view(logits, "logits", image, logits.size(1));
  o.grad_logits = image_view(grad_logits, "grad_logits", image, logits.size(1));
  if (o.grad_logits.type != o.logits.type) refuse("grad_logits must have the type of logits");
  launch_objective(Launch(image), o, shape);
}

}  // namespace
}  // namespace zdce::cuda

STABLE_TORCH_LIBRARY_IMPL(zdce_cuda, CUDA, m) {
  m.impl("objective_statistics", TORCH_BOX(&zdce::cuda::objective_statistics));
  m.impl("objective_statistics_backward", TORCH_BOX(&zdce::cuda::objective_statistics_backward));
}
