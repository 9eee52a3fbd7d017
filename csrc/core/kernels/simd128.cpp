// The kernels for enhancing pictures in WebAssembly, with vectors of 128 bits. Its engines use the processor's
// registers, at least 16.
#if defined(__wasm__)

#define ZDCE_TARGET simd128
#define ZDCE_REGISTER_BYTES 16
#define ZDCE_STRIP_TILES 2
#define ZDCE_GRADIENT_OUTPUTS 2
#define ZDCE_ENHANCING_ONLY 1

#include "shared.h"
//
#include "table.h"

#endif
