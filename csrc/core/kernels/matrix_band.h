// Four rows of one layer in bfloat16, by a unit that multiplies matrices: Intel's AMX (amx.h), Arm's BF16 (bfmmla.h).
#pragma once

#include "bands.h"

namespace zdce::ZDCE_TARGET {

// 4 rows x 16 pixels x 16 outputs at a time. Unit::multiply gives their sums, of one block of outputs from column x
// on, as (4, 16 pixels, 16). What is done with them is divided into pieces, which fall between the next ones' products.
template <class Unit>
struct MatrixBand {
  ZDCE_INLINE static void run(const Band<BFloat16>* band, const Finish* finish) {
    if (finish == nullptr) {
      hidden(*band);
    } else {
      last(*band, *finish);
    }
  }

  // The picture's rows as the first layer in bfloat16 reads them. rows: `columns` of each colour, a multiple of 16; to:
  // (columns, kColorValues). What rounding leaves is 0 where a colour is not finite: a step ends with two such values
  // of a fourth pixel, times 0.
  ZDCE_INLINE static void split_colors(const float* const (&rows)[3], int columns, BFloat16* to) {
    for (int x = 0; x < columns; x += kRegisterLanes, to += kRegisterLanes * kColorValues) {
      RegisterBits color[3], rest[3];
      for (int c = 0; c < 3; ++c) {
        const Register v = load_register(rows[c] + x);
        color[c] = Unit::bfloat16_bits(v);
        const Register left = v - reinterpret_cast<Register>(color[c] << 16);
        rest[c] = Unit::bfloat16_bits(left - left == Register{} ? left : Register{});
      }
      // Two values a lane: five lanes a pixel, the fourth like the second.
      const RegisterBits pairs[4] = {rest[0] | rest[1] << 16, color[0] | color[1] << 16, color[2] | rest[2] << 16,
                                     color[2]};
      Register lanes[4];
      std::memcpy(lanes, pairs, sizeof(lanes));
      put_fives(lanes, to, std::make_integer_sequence<int, 5>());
    }
  }

  template <int... kPart>
  ZDCE_INLINE static void put_fives(const Register (&lanes)[4], BFloat16* to, std::integer_sequence<int, kPart...>) {
    (put_part<kPart>(lanes, to, std::make_integer_sequence<int, kRegisterLanes>()), ...);
  }

  // Register kPart of five that hold lanes 0, 1, 2, 1 and 3 of pixel 0, then of pixel 1, ...
  template <int kPart, int... kLane>
  ZDCE_INLINE static void put_part(const Register (&lanes)[4], BFloat16* to, std::integer_sequence<int, kLane...>) {
    constexpr int n = kRegisterLanes;
    const auto pixel = [](int lane) { return (kPart * n + lane) / 5; };
    const auto which = [](int lane) { return (kPart * n + lane) % 5; };
    const Register first = shuffle<(which(kLane) % 2 == 1 ? n : 0) + pixel(kLane)...>(lanes[0], lanes[1]);
    const Register second = shuffle<(which(kLane) == 4 ? n : 0) + pixel(kLane)...>(lanes[2], lanes[3]);
    const Register all = shuffle<(which(kLane) == 2 || which(kLane) == 4 ? n : 0) + kLane...>(first, second);
    std::memcpy(to + kPart * 2 * n, &all, sizeof(all));
  }

  // A block's weights stay in the first-level cache for the whole row.
  ZDCE_INLINE static void hidden(const Band<BFloat16>& band) {
    for (int o = 0; o < band.layer->blocks; ++o) {
      const auto store = [&](const float* sums, int x, int i) ZDCE_INLINE_LAMBDA { Unit::store(band, x, o, sums, i); };
      each(band, o, 1, 4 * kBandRows, store);
    }
  }

  ZDCE_INLINE static void last(const Band<BFloat16>& band, const Finish& finish) {
    constexpr int row = kBlock * kBlock;
    const Layer& layer = *band.layer;
    const typename Unit::Activation activation(finish.strength);
    const int pieces = layer.blocks + finish.maps / 3 + 1;
    alignas(64) float maps[(kMaxMaps + kBlock) * kBlock];  // of 16 pixels of a row
    const auto finish_piece = [&](const float* sums, int x, int i) __attribute__((noinline)) {
      const int r = i / pieces, piece = i % pieces, threes = piece - layer.blocks;
      if (piece < layer.blocks) {
        float* const to = maps + piece * row;
        const float* const from = sums + (piece * kBandRows + r) * row;
        if (layer.outputs - piece * kBlock <= 8) {
          Unit::transpose_first_eight(from, layer.bias + piece * kBlock, to);
        } else {
          transpose(from, to, layer.bias + piece * kBlock);
        }
      } else if (threes < finish.maps / 3) {
        activation.run(maps + threes * 3 * kBlock);
      } else {
        leave_pixels<1>(maps, r, x, finish);
      }
    };
    each(band, 0, layer.blocks, kBandRows * pieces, finish_piece);
  }

  // use(sums, x, i) for i < pieces, of all 16 pixels from column x on. sums: (blocks, 4, 16 pixels, 16).
  template <class Use>
  ZDCE_INLINE static void each(const Band<BFloat16>& band, int first, int blocks, int pieces, const Use& use) {
    constexpr int tile = kBandRows * kBlock * kBlock;
    const int pauses = Unit::pauses(*band.layer) * blocks;
    float *sums = band.products, *before = sums + blocks * tile;
    int x = band.left, piece = pieces;
    for (; x < band.right; x += kBlock, piece = 0) {
      int due = 0;  // pieces times pauses
      const auto between = [&]() ZDCE_INLINE_LAMBDA {
        for (due += pieces; due >= pauses && piece < pieces; due -= pauses) use(before, x - kBlock, piece++);
      };
      for (int o = 0; o < blocks; ++o) Unit::multiply(band, x, first + o, sums + o * tile, between);
      while (piece < pieces) use(before, x - kBlock, piece++);
      std::swap(sums, before);
    }
    while (piece < pieces) use(before, x - kBlock, piece++);
  }
};

// Where the inputs of separable layers' 1x1 products lie: (steps, 16 pixels, two blocks of 16).
struct PointwiseCoefficients {
  static constexpr int kPixel = 2 * kBlock;

  ZDCE_INLINE static BFloat16* place(float* coefficients, int block) {
    return reinterpret_cast<BFloat16*>(coefficients) + block / 2 * kMatrix + block % 2 * kBlock;
  }
};

}  // namespace zdce::ZDCE_TARGET
