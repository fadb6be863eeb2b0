// The memory of an event: a static region first, then regions of `malloc`.
//
// Most events run in a fresh sandbox, where growing the memory is the most expensive thing that an allocator can do, so
// the first allocations come from a static region: pages of it that no allocation touches stay clean and cost nothing.
// All memory is freed at the end of the event, so that a sandbox that is reused for many events does not grow.
#include <stdlib.h>
#include <string.h>

#include "internal.h"

// Enough to read a message of about 40 KiB, change it and send it back.
#define STATIC_BYTES ((size_t)96 * 1024)
// Smallest region of `malloc`, because each growth costs more than the pages that it adds.
#define REGION_BYTES_MIN ((size_t)256 * 1024)

typedef struct region {
    struct region *before;
    size_t bytes;
    _Alignas(16) char data[];
} region;

static _Alignas(16) char static_region[STATIC_BYTES];
// The region of the next allocation; NULL is the static one.
static region *newest;
static size_t used;
static size_t grown_bytes;

static char *start(void) {
    return newest ? newest->data : static_region;
}

static size_t capacity(void) {
    return newest ? newest->bytes : STATIC_BYTES;
}

// Returns where the next allocation of this alignment begins in the region.
static size_t aligned(size_t align) {
    uintptr_t next = (uintptr_t)start() + used;
    return used + (size_t)(-next & (align - 1));
}

static void grow(size_t bytes) {
    size_t wanted = bytes < REGION_BYTES_MIN ? REGION_BYTES_MIN : bytes;
    region *added = wanted > SIZE_MAX - sizeof(region) ? NULL : malloc(sizeof(region) + wanted);
    if (!added) abort();
    added->before = newest;
    added->bytes = wanted;
    newest = added;
    used = 0;
    grown_bytes += wanted;
}

void *jackfield_arena_allocate(size_t bytes, size_t align) {
    size_t from = aligned(align);
    if (from > capacity() || bytes > capacity() - from) {
        grow(bytes > SIZE_MAX - align ? SIZE_MAX : bytes + align);
        from = aligned(align);
    }
    used = from + bytes;
    return start() + from;
}

bool jackfield_arena_resize_in_place(void *memory, size_t old_bytes, size_t new_bytes) {
    char *old = memory;
    if (old >= start() && old + old_bytes == start() + used) {
        size_t from = (size_t)(old - start());
        if (new_bytes > capacity() - from) return false;
        used = from + new_bytes;
        return true;
    }
    return new_bytes <= old_bytes;
}

void *jackfield_arena_resize(void *memory, size_t old_bytes, size_t new_bytes, size_t align) {
    if (old_bytes == 0) return jackfield_arena_allocate(new_bytes, align);
    if (jackfield_arena_resize_in_place(memory, old_bytes, new_bytes)) return memory;
    void *moved = jackfield_arena_allocate(new_bytes, align);
    memcpy(moved, memory, old_bytes);
    return moved;
}

void jackfield_arena_free(void *memory, size_t bytes) {
    if (bytes > 0 && (char *)memory + bytes == start() + used) used -= bytes;
}

void jackfield_arena_reset(void) {
    while (newest) {
        region *before = newest->before;
        free(newest);
        newest = before;
    }
    used = 0;
    grown_bytes = 0;
}

size_t jackfield_arena_grown_bytes(void) {
    return grown_bytes;
}

void *jackfield_alloc(size_t bytes) {
    return jackfield_arena_allocate(bytes, 16);
}

void *jackfield_resize(void *memory, size_t old_bytes, size_t new_bytes) {
    return jackfield_arena_resize(memory, old_bytes, new_bytes, 16);
}
