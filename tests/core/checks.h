// What the core's test programs share: counted checks, and random numbers.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "../../csrc/core/isa.h"

inline int failed = 0, checks = 0;

inline void expect(bool holds, const char* what, zdce::Isa isa, double value) {
  ++checks;
  if (holds) return;
  ++failed;
  std::fprintf(stderr, "%s, %s: off by %g\n", what, isa_name(isa), value);
}

template <class A, class B>
double largest_gap(const A& a, const B& b) {
  double gap = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double own = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(own <= gap)) gap = own;  // NaN stays
    if (gap != gap) break;
  }
  return a.size() == b.size() && gap == gap ? gap : HUGE_VAL;
}

inline std::vector<float> numbers(size_t count, float low, float high, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> all(count);
  for (float& one : all) one = low + (high - low) * static_cast<float>(random() % 65536) / 65535;
  return all;
}
