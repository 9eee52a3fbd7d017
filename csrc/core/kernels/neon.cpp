// The kernels for AArch64, whose 32 registers of 16 bytes hold three times the baseline's sums, and where the processor
// has them products in bfloat16.
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
