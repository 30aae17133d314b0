/* What this process may use of the machine: memory and cores, the limits of its container included. */
#ifndef BASE_SYS_H
#define BASE_SYS_H

#include <stddef.h>

size_t sys_memory_available(void);      /* bytes that can be used without swapping; SIZE_MAX: unknown */
size_t sys_cores(void);                 /* affinity and CPU quota; at least 1 */

#endif
