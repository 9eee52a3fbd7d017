// The statistics that losses are formulas of: means of channels and regions, squared differences of neighbours,
// contrast of regions, and the objective of them.

#include <cstddef>
#include <optional>
#include <vector>

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

// Memory for so many values of `type`, double or float.
std::vector<std::byte> scratch(Element type, int64_t values) { return std::vector<std::byte>(values * bytes_of(type)); }

RegionGrid region_grid(const Planes& image) {
  return {image.batch, image.height / kObjectiveRegion, image.width / kObjectiveRegion};
}

// image: (B, 3, H, W); logits: (B, 3 T or 3, H, W). Written: total and the four terms: (); enhanced_regions, gaps:
// (B, H / 4, W / 4); channel_means: (B, 3).
void objective(const Tensor image, const Tensor logits, int64_t iterations, double along_y, double along_x,
               double illumination, double spatial, double color, double exposure, double target, const Tensor total,
               const Tensor illumination_term, const Tensor spatial_term, const Tensor color_term,
               const Tensor exposure_term, const Tensor enhanced_regions, const Tensor gaps,
               const Tensor channel_means) {
  const Planes i = planes(image, "image"), l = planes(logits, "logits");
  check_curve(i, l, "logits", iterations);
  const Element type = statistic(i, l);
  const RegionGrid of_regions = region_grid(i);
  const auto shape = {of_regions.batch, of_regions.down, of_regions.across};
  void* const regions = grid(enhanced_regions, "enhanced_regions", type, shape);
  void* const differences = grid(gaps, "gaps", type, shape);
  void* const means = grid(channel_means, "channel_means", type, {i.batch, 3});
  void* const scalars[] = {grid(total, "total", type, {}), grid(illumination_term, "illumination_term", type, {}),
                           grid(spatial_term, "spatial_term", type, {}), grid(color_term, "color_term", type, {}),
                           grid(exposure_term, "exposure_term", type, {})};
  std::vector<std::byte> tv_sums = scratch(type, 2);
  kernels().objective_statistics(i, l, static_cast<int>(iterations), regions, differences, means, tv_sums.data());
  kernels().objective(type == Element::kDouble, {along_y, along_x, illumination, spatial, color, exposure, target},
                      of_regions, regions, differences, means, tv_sums.data(), scalars);
}

// grad_total and those of the terms: (); enhanced_regions, gaps: (B, H / 4, W / 4); channel_means: (B, 3); image:
// (B, 3, H, W); logits, grad_logits (written): (B, 3 T or 3, H, W).
void objective_backward(const std::optional<Tensor> grad_total, const std::optional<Tensor> grad_illumination,
                        const std::optional<Tensor> grad_spatial, const std::optional<Tensor> grad_color,
                        const std::optional<Tensor> grad_exposure, const Tensor enhanced_regions, const Tensor gaps,
                        const Tensor channel_means, const Tensor image, const Tensor logits, int64_t iterations,
                        double along_y, double along_x, double illumination, double spatial, double color,
                        double exposure, double target, const Tensor grad_logits) {
  const Planes i = planes(image, "image"), l = planes(logits, "logits"), g = planes(grad_logits, "grad_logits");
  check_curve(i, l, "logits", iterations);
  check_shape(g, "grad_logits", l.batch, l.channels, l.height, l.width);
  const Element type = statistic(i, l);
  const RegionGrid of_regions = region_grid(i);
  const auto shape = {of_regions.batch, of_regions.down, of_regions.across};
  const auto scalar = [&](const std::optional<Tensor>& grad, const char* name) -> const void* {
    return grad ? grid(*grad, name, type, {}) : nullptr;
  };
  const void* const grads[] = {scalar(grad_total, "grad_total"), scalar(grad_illumination, "grad_illumination"),
                               scalar(grad_spatial, "grad_spatial"), scalar(grad_color, "grad_color"),
                               scalar(grad_exposure, "grad_exposure")};
  std::vector<std::byte> grad_regions = scratch(type, of_regions.regions()), grad_channels = scratch(type, 3 * i.batch),
                         grad_tv = scratch(type, 2);
  kernels().objective_backward(type == Element::kDouble,
                               {along_y, along_x, illumination, spatial, color, exposure, target}, of_regions, grads,
                               grid(enhanced_regions, "enhanced_regions", type, shape), grid(gaps, "gaps", type, shape),
                               grid(channel_means, "channel_means", type, {i.batch, 3}), grad_regions.data(),
                               grad_channels.data(), grad_tv.data());
  kernels().objective_statistics_backward(grad_regions.data(), grad_channels.data(), grad_tv.data(), i, l,
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
  m.impl("objective", TORCH_BOX(&zdce::objective));
  m.impl("objective_backward", TORCH_BOX(&zdce::objective_backward));
}
