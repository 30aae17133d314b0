#include "base/sys.h"

#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

/* Up to two numbers of a control file; "max" and a missing file leave them unset. */
static int read_numbers(const char *path, unsigned long long *a, unsigned long long *b) {
    FILE *fp = fopen(path, "r");
    if (!fp) return 0;
    const int n = fscanf(fp, "%llu %llu", a, b);
    fclose(fp);
    return n > 0 ? n : 0;
}

static size_t meminfo_available(void) {
    unsigned long long kib = 0;
    char line[256];
    FILE *fp = fopen("/proc/meminfo", "r");
    if (!fp) return SIZE_MAX;
    while (fgets(line, sizeof line, fp))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1) break;
    fclose(fp);
    return kib && kib <= SIZE_MAX / 1024 ? (size_t)kib * 1024 : SIZE_MAX;
}

size_t sys_memory_available(void) {
    size_t available = meminfo_available();
    unsigned long long most, used, unused;
    if (read_numbers("/sys/fs/cgroup/memory.max", &most, &unused) &&
        read_numbers("/sys/fs/cgroup/memory.current", &used, &unused)) {
        const unsigned long long left = most > used ? most - used : 0;
        if (left < available) available = (size_t)left;
    }
    return available;
}

size_t sys_cores(void) {
    cpu_set_t set;
    size_t n = 0;
    unsigned long long quota, period;
    if (sched_getaffinity(0, sizeof set, &set) == 0) n = (size_t)CPU_COUNT(&set);
    if (n == 0) {       /* more than 1024 CPUs do not fit in the set */
        const long online = sysconf(_SC_NPROCESSORS_ONLN);
        n = online > 0 ? (size_t)online : 1;
    }
    /* A container with a share of the time: more threads than that would be stopped in the middle of a job. */
    if (read_numbers("/sys/fs/cgroup/cpu.max", &quota, &period) == 2 && period) {
        const unsigned long long whole = (quota + period - 1) / period;
        if (whole < n) n = whole ? (size_t)whole : 1;
    }
    return n;
}
