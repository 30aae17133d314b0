/* Included before every file of the library in the oom build: its allocations can be made to fail one by one. */
#ifndef TESTS_OOM_OOM_H
#define TESTS_OOM_OOM_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void *oom_malloc(size_t n);
void *oom_calloc(size_t count, size_t n);
void *oom_realloc(void *p, size_t n);
int oom_posix_memalign(void **out, size_t align, size_t n);
void *oom_aligned_alloc(size_t align, size_t n);
char *oom_strdup(const char *s);
char *oom_strndup(const char *s, size_t n);
void *oom_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);

#undef strdup
#undef strndup
#define malloc oom_malloc
#define calloc oom_calloc
#define realloc oom_realloc
#define posix_memalign oom_posix_memalign
#define aligned_alloc oom_aligned_alloc
#define strdup oom_strdup
#define strndup oom_strndup
#define mmap oom_mmap

#endif
