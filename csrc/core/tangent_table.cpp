#include "tangent_table.h"

#include <cmath>
#include <numbers>

namespace zdce {
namespace {

// Each cubic goes through tanh at the four Chebyshev nodes of its piece, which leaves an error near the least.
TangentTable interpolated() {
  TangentTable table;
  for (int k = 0; k < kTangentPieces; ++k) {
    double node[4], divided[4];
    for (int i = 0; i < 4; ++i) {
      node[i] = kTangentPiece / 2.0 * std::cos((2 * i + 1) * std::numbers::pi / 8);
      divided[i] = std::tanh(double{kTangentPiece} * k + node[i]);
    }
    for (int order = 1; order < 4; ++order) {
      for (int i = 3; i >= order; --i) divided[i] = (divided[i] - divided[i - 1]) / (node[i] - node[i - order]);
    }
    // Newton's form to powers, by Horner's rule.
    double powers[4] = {divided[3], 0, 0, 0};
    for (int i = 2; i >= 0; --i) {
      for (int n = 3; n > 0; --n) powers[n] = powers[n - 1] - node[i] * powers[n];
      powers[0] = divided[i] - node[i] * powers[0];
    }
    for (int n = 0; n < 4; ++n) table.at[n][k] = static_cast<float>(powers[n]);
  }
  return table;
}

}  // namespace

const TangentTable& tangent_table() {
  static const TangentTable table = interpolated();
  return table;
}

}  // namespace zdce
