// The statistics that losses are formulas of: means of channels and regions, squared differences of neighbours,
// contrast of regions, and the objective's single pass.

#include <optional>

#include "tensors.h"

namespace zdce {
namespace {

// image: (B, 3, H, W); means: (B, 3), written.
void channel_means(const Tensor image, const Tensor means) {
  const Planes i = planes(image, "image");
  check_shape(i, "image", i.batch, 3, i.height, i.width);
  kernels().channel_means(i, grid(means, "means", statistic(i), {i.batch, 3}));
}

// grad: (B, 3); grad_image: (B, 3, height, width), written.
void channel_means_backward(const Tensor grad, int64_t height, int64_t width, const Tensor grad_image) {
  const Planes i = planes(grad_image, "grad_image");
  check_shape(i, "grad_image", i.batch, 3, height, width);
  kernels().channel_means_backward(grid(grad, "grad", statistic(i), {i.batch, 3}), i);
}

void check_region(int64_t region) {
  if (region < 1 || region > (int64_t{1} << 31)) {
    throw std::runtime_error("zdce: region must be 1 to 2^31, got " + std::to_string(region));
  }
}

// image: (B, 3, H, W); means: (B, H / region, W / region), written.
void region_means(const Tensor image, int64_t region, const Tensor means) {
  const Planes i = planes(image, "image");
  check_shape(i, "image", i.batch, 3, i.height, i.width);
  check_region(region);
  kernels().region_means(i, region, grid(means, "means", statistic(i), {i.batch, i.height / region, i.width / region}));
}

// grad: (B, height / region, width / region); grad_image: (B, 3, height, width), written.
void region_means_backward(const Tensor grad, int64_t region, int64_t height, int64_t width, const Tensor grad_image) {
  const Planes i = planes(grad_image, "grad_image");
  check_shape(i, "grad_image", i.batch, 3, height, width);
  check_region(region);
  kernels().region_means_backward(grid(grad, "grad", statistic(i), {i.batch, height / region, width / region}), region,
                                  i);
}

// maps: (B, C, H, W); sums: (2,), written.
void tv_sums(const Tensor maps, const Tensor sums) {
  const Planes m = planes(maps, "maps");
  kernels().tv_sums(m, grid(sums, "sums", statistic(m), {2}));
}

// grad: (2,); maps, grad_maps (written): (B, C, H, W).
void tv_sums_backward(const Tensor grad, const Tensor maps, const Tensor grad_maps) {
  const Planes m = planes(maps, "maps"), g = planes(grad_maps, "grad_maps");
  check_shape(g, "grad_maps", m.batch, m.channels, m.height, m.width);
  kernels().tv_sums_backward(grid(grad, "grad", statistic(m), {2}), m, g);
}

// enhanced, image: (B, 3, H, W); written: change: (); gaps: (B, H / region, W / region).
void region_contrast(const Tensor enhanced, const Tensor image, int64_t region, const Tensor change,
                     const Tensor gaps) {
  const Planes e = planes(enhanced, "enhanced"), i = planes(image, "image");
  check_shape(e, "enhanced", i.batch, 3, i.height, i.width);
  check_shape(i, "image", i.batch, 3, i.height, i.width);
  check_region(region);
  const Element type = statistic(e, i);
  kernels().region_contrast(e, i, region, grid(change, "change", type, {}),
                            grid(gaps, "gaps", type, {i.batch, i.height / region, i.width / region}));
}

// grad: (); gaps, grad_gaps: (B, height / region, width / region); grad_image: (B, 3, height, width), written.
void region_contrast_backward(const std::optional<Tensor> grad, const Tensor gaps,
                              const std::optional<Tensor> grad_gaps, int64_t region, int64_t height, int64_t width,
                              const Tensor grad_image) {
  const Planes g = planes(grad_image, "grad_image");
  check_shape(g, "grad_image", g.batch, 3, height, width);
  check_region(region);
  const Element type = element_of(gaps);
  const auto shape = {g.batch, height / region, width / region};
  const void* const values = grid(gaps, "gaps", type == Element::kDouble ? type : Element::kFloat, shape);
  kernels().region_contrast_backward(type == Element::kDouble, grad ? grid(*grad, "grad", type, {}) : nullptr, values,
                                     grad_gaps ? grid(*grad_gaps, "grad_gaps", type, shape) : nullptr, region, g);
}

// image: (B, 3, H, W); logits: (B, 3 T or 3, H, W); written: enhanced_regions, image_regions: (B, H / 4, W / 4);
// channel_means: (B, 3); tv_sums: (2,).
void objective_statistics(const Tensor image, const Tensor logits, int64_t iterations, const Tensor enhanced_regions,
                          const Tensor image_regions, const Tensor channel_means, const Tensor tv_sums) {
  const Planes i = planes(image, "image"), l = planes(logits, "logits");
  check_curve(i, l, "logits", iterations);
  const Element type = statistic(i, l);
  const auto regions = {i.batch, i.height / kObjectiveRegion, i.width / kObjectiveRegion};
  kernels().objective_statistics(
      i, l, static_cast<int>(iterations), grid(enhanced_regions, "enhanced_regions", type, regions),
      grid(image_regions, "image_regions", type, regions), grid(channel_means, "channel_means", type, {i.batch, 3}),
      grid(tv_sums, "tv_sums", type, {2}));
}

// grad_regions: (B, H / 4, W / 4); grad_channels: (B, 3); grad_tv: (2,); image: (B, 3, H, W); logits, grad_logits
// (written): (B, 3 T or 3, H, W).
void objective_statistics_backward(const Tensor grad_regions, const Tensor grad_channels, const Tensor grad_tv,
                                   const Tensor image, const Tensor logits, int64_t iterations,
                                   const Tensor grad_logits) {
  const Planes i = planes(image, "image"), l = planes(logits, "logits"), g = planes(grad_logits, "grad_logits");
  check_curve(i, l, "logits", iterations);
  check_shape(g, "grad_logits", l.batch, l.channels, l.height, l.width);
  const Element type = statistic(i, l);
  kernels().objective_statistics_backward(
      grid(grad_regions, "grad_regions", type, {i.batch, i.height / kObjectiveRegion, i.width / kObjectiveRegion}),
      grid(grad_channels, "grad_channels", type, {i.batch, 3}), grid(grad_tv, "grad_tv", type, {2}), i, l,
      static_cast<int>(iterations), g);
}

}  // namespace
}  // namespace zdce

STABLE_TORCH_LIBRARY_IMPL(zdce_cpp, CPU, m) {
  m.impl("channel_means", TORCH_BOX(&zdce::channel_means));
  m.impl("channel_means_backward", TORCH_BOX(&zdce::channel_means_backward));
  m.impl("region_means", TORCH_BOX(&zdce::region_means));
  m.impl("region_means_backward", TORCH_BOX(&zdce::region_means_backward));
  m.impl("region_contrast", TORCH_BOX(&zdce::region_contrast));
  m.impl("region_contrast_backward", TORCH_BOX(&zdce::region_contrast_backward));
  m.impl("tv_sums", TORCH_BOX(&zdce::tv_sums));
  m.impl("tv_sums_backward", TORCH_BOX(&zdce::tv_sums_backward));
  m.impl("objective_statistics", TORCH_BOX(&zdce::objective_statistics));
  m.impl("objective_statistics_backward", TORCH_BOX(&zdce::objective_statistics_backward));
}
