// Tensors read and written in runs of pixels of a row.
//
// A kernel works on planar runs of float or double. Where a tensor has unit pixel stride and that very type, a run is
// the tensor's own memory; otherwise (channels_last, half types, mixed types) it is a copy that stays in L1.
#pragma once

#include "lanes.h"

namespace zdce::ZDCE_TARGET {

// Pixels of a run. 27 planes of 256 floats take 27 KB of L1 (T = 8) and each plane's run is long enough for the
// prefetcher.
constexpr int kRunPixels = 256;

// From a run in scratch to the next: 1 KB would put the same pixel of all runs into four sets of L1. There is room for
// a neighbour on either side.
constexpr int kRunPitch = kRunPixels + 16;

// Pixels of a run of an image's three channels: a page of float, so that each plane is read page by page.
constexpr int kColorPixels = 1024;
constexpr int kColorPitch = kColorPixels + 16;

template <class S, class C>
struct Gather {
  ZDCE_INLINE static void run(const char* from, int64_t stride, int n, C* to) {
    if (stride == static_cast<int64_t>(sizeof(S))) {
      for (int i = 0; i < n; ++i) to[i] = widen<C>(reinterpret_cast<const S*>(from)[i]);
    } else {
      for (int i = 0; i < n; ++i) to[i] = widen<C>(*reinterpret_cast<const S*>(from + i * stride));
    }
  }
};

template <class S, class C>
struct Scatter {
  ZDCE_INLINE static void run(const C* from, int n, char* to, int64_t stride) {
    if (stride == static_cast<int64_t>(sizeof(S))) {
      for (int i = 0; i < n; ++i) reinterpret_cast<S*>(to)[i] = Narrow<S>::from(from[i]);
    } else {
      for (int i = 0; i < n; ++i) *reinterpret_cast<S*>(to + i * stride) = Narrow<S>::from(from[i]);
    }
  }
};

// Conversion between channels_last memory and planar runs, by 4 x 4 transpositions in registers. Channel k of pixel i
// is at k * sizeof(S) + i * stride in the tensor and at k * pitch + i in the run.
template <class C>
using Four = typename VectorOf<C, 4>::type;

template <class C>
constexpr bool kFourFit = sizeof(Four<C>) <= ZDCE_REGISTER_BYTES;

template <class C>
ZDCE_INLINE void transpose(Four<C> (&v)[4]) {
  if constexpr (!kFourFit<C>) {
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < i; ++j) {
        const C value = v[i][j];
        v[i][j] = v[j][i], v[j][i] = value;
      }
    }
  } else {
    const auto a = shuffle<0, 4, 1, 5>(v[0], v[1]), b = shuffle<2, 6, 3, 7>(v[0], v[1]);
    const auto c = shuffle<0, 4, 1, 5>(v[2], v[3]), d = shuffle<2, 6, 3, 7>(v[2], v[3]);
    v[0] = shuffle<0, 1, 4, 5>(a, c);
    v[1] = shuffle<2, 3, 6, 7>(a, c);
    v[2] = shuffle<0, 1, 4, 5>(b, d);
    v[3] = shuffle<2, 3, 6, 7>(b, d);
  }
}

template <class S, class C>
struct Deinterleave {
  ZDCE_INLINE static void run(const char* from, int64_t stride, int channels, int n, C* to, int pitch) {
    for (int k = 0; k < channels; k += 4) {
      const int wanted = std::min(4, channels - k);
      // Three channels are read as four, of which the fourth is the next pixel's; the last pixel is left to the loop
      // below.
      const int fours = wanted == 4 ? n & ~3 : wanted == 3 ? (n - 1) & ~3 : 0;
      for (int i = 0; i < fours; i += 4) {
        Four<C> v[4];
        for (int j = 0; j < 4; ++j) {
          const S* pixel = reinterpret_cast<const S*>(from + (i + j) * stride) + k;
          if constexpr (std::is_same_v<S, C>) {
            std::memcpy(&v[j], pixel, sizeof(v[j]));
          } else {
            for (int l = 0; l < 4; ++l) v[j][l] = widen<C>(pixel[l]);
          }
        }
        transpose<C>(v);
        for (int j = 0; j < wanted; ++j) std::memcpy(to + (k + j) * pitch + i, &v[j], sizeof(v[j]));
      }
      for (int i = fours; i < n; ++i) {
        for (int j = 0; j < wanted; ++j) {
          to[(k + j) * pitch + i] = widen<C>(reinterpret_cast<const S*>(from + i * stride)[k + j]);
        }
      }
    }
  }
};

template <class S, class C>
struct Interleave {
  ZDCE_INLINE static void run(const C* from, int pitch, int channels, int n, char* to, int64_t stride) {
    for (int k = 0; k < channels; k += 4) {
      const int wanted = std::min(4, channels - k);
      const int fours = wanted == 4 ? n & ~3 : 0;
      for (int i = 0; i < fours; i += 4) {
        Four<C> v[4];
        for (int j = 0; j < 4; ++j) std::memcpy(&v[j], from + (k + j) * pitch + i, sizeof(v[j]));
        transpose<C>(v);
        for (int j = 0; j < 4; ++j) {
          S* pixel = reinterpret_cast<S*>(to + (i + j) * stride) + k;
          if constexpr (std::is_same_v<S, C>) {
            std::memcpy(pixel, &v[j], sizeof(v[j]));
          } else {
            for (int l = 0; l < 4; ++l) pixel[l] = Narrow<S>::from(v[j][l]);
          }
        }
      }
      for (int i = fours; i < n; ++i) {
        for (int j = 0; j < wanted; ++j) {
          reinterpret_cast<S*>(to + i * stride)[k + j] = Narrow<S>::from(from[(k + j) * pitch + i]);
        }
      }
    }
  }
};

template <class C>
bool is_run(const Planes& t) {
  return t.element == kElement<C> && t.pixel_stride == static_cast<int64_t>(sizeof(C));
}

// An output of at least this many bytes a thread, about a second-level cache, is written past the caches. On one core
// and on two, this made writing 6 to 50 MB and reading it again take 0.65 to 0.85 of the time; with 1.5 MB it made no
// difference.
constexpr int64_t kPastCaches = 2 << 20;

// Whether runs of this output are written past the caches: it is large, and each of its lines lies in one run.
template <class C>
bool past_caches(const Planes& t) {
  const auto whole_lines = [](int64_t bytes) { return bytes % 64 == 0; };
  const int64_t bytes = t.batch * t.channels * t.height * t.width * static_cast<int64_t>(sizeof(C));
  return is_run<C>(t) && bytes >= kPastCaches * max_threads() && whole_lines(reinterpret_cast<intptr_t>(t.data)) &&
         whole_lines(t.batch_stride) && whole_lines(t.channel_stride) && whole_lines(t.row_stride);
}

// Distance, in values, from a run to that of the row below, which is read next; 0 if runs are copies.
template <class C>
int64_t next_row(const Planes& t) {
  return is_run<C>(t) ? t.row_stride / static_cast<int64_t>(sizeof(C)) : 0;
}

inline bool is_interleaved(const Planes& t) {
  const int64_t bytes = bytes_of(t.element);
  return t.channel_stride == bytes && t.pixel_stride >= t.channels * bytes && t.channels > 2;
}

// Channels first to first + channels of n pixels of image b, from (y, x).
struct Piece {
  int64_t b, first, channels, y, x;
  int n;
};

// Sets runs[k] to the run of the piece's channel k: the tensor's own memory if it is a run, else a copy at
// scratch + k * pitch.
template <class C>
void fetch(const Planes& t, const Piece& p, C* scratch, int pitch, const C** runs) {
  if (is_run<C>(t)) {
    for (int64_t k = 0; k < p.channels; ++k) {
      runs[k] = reinterpret_cast<const C*>(address(t, p.b, p.first + k, p.y, p.x));
    }
    return;
  }
  for (int64_t k = 0; k < p.channels; ++k) runs[k] = scratch + k * pitch;
  with_element(t.element, [&](auto element) {
    using S = decltype(element);
    const char* from = address(t, p.b, p.first, p.y, p.x);
    if (is_interleaved(t)) {
      Deinterleave<S, C>::run(from, t.pixel_stride, static_cast<int>(p.channels), p.n, scratch, pitch);
    } else {
      for (int64_t k = 0; k < p.channels; ++k) {
        Gather<S, C>::run(from + k * t.channel_stride, t.pixel_stride, p.n, scratch + k * pitch);
      }
    }
  });
}

// Sets runs[k] to where a kernel writes channel k: the tensor's own memory if it is a run, else scratch, which `put`
// copies.
template <class C>
void target(const Planes& t, const Piece& p, C* scratch, int pitch, C** runs) {
  for (int64_t k = 0; k < p.channels; ++k) {
    runs[k] = is_run<C>(t) ? reinterpret_cast<C*>(address(t, p.b, p.first + k, p.y, p.x)) : scratch + k * pitch;
  }
}

template <class C>
void put(const Planes& t, const Piece& p, const C* scratch, int pitch) {
  if (is_run<C>(t)) return;
  with_element(t.element, [&](auto element) {
    using S = decltype(element);
    char* to = address(t, p.b, p.first, p.y, p.x);
    if (is_interleaved(t)) {
      Interleave<S, C>::run(scratch, pitch, static_cast<int>(p.channels), p.n, to, t.pixel_stride);
    } else {
      for (int64_t k = 0; k < p.channels; ++k) {
        Scatter<S, C>::run(scratch + k * pitch, p.n, to + k * t.channel_stride, t.pixel_stride);
      }
    }
  });
}

}  // namespace zdce::ZDCE_TARGET
