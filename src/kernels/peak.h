/* The most multiply-adds a second that the CPU can do in 8 bits (f32 where it has no such instruction), from registers
 * alone: what products of matrices are measured against. */
#ifndef KERNELS_PEAK_H
#define KERNELS_PEAK_H

#include "kernels/kernels.h"

/* The best of a few rounds over all threads of the pool; *unit: what was counted, static text. 0: unknown for this CPU. */
double peak_macs(const ern_kernels *k, ern_pool *pool, const char **unit);

#endif
