// The kernels for every processor of the architecture.
#if !defined(__wasm__)

#define ZDCE_TARGET baseline
#define ZDCE_REGISTER_BYTES 16
#define ZDCE_STRIP_TILES 2
#define ZDCE_GRADIENT_OUTPUTS 2

#include "shared.h"
//
#include "table.h"

#endif
