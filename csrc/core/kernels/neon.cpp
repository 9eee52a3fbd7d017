// The kernels for AArch64: 32 registers of 16 bytes, which hold three times as many sums as the baseline's, and
// products in bfloat16 on processors that have them.
#if defined(__aarch64__)

#define ZDCE_TARGET neon
#define ZDCE_REGISTER_BYTES 16
#define ZDCE_STRIP_TILES 6
#define ZDCE_GRADIENT_OUTPUTS 4
#define ZDCE_HAS_BFMMLA 1

#include "shared.h"
//
#include "table.h"

#endif
