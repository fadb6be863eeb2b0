// What the files of the SDK share and handlers do not see.
#ifndef JACKFIELD_INTERNAL_H
#define JACKFIELD_INTERNAL_H

#include "jackfield.h"

// Allocates memory of the event. `align` is a power of two.
void *jackfield_arena_allocate(size_t bytes, size_t align);
void *jackfield_arena_resize(void *memory, size_t old_bytes, size_t new_bytes, size_t align);
// Changes the size without moving the memory. Returns false if it cannot.
bool jackfield_arena_resize_in_place(void *memory, size_t old_bytes, size_t new_bytes);
// Gives memory back if it is the last allocation, and else does nothing.
void jackfield_arena_free(void *memory, size_t bytes);
// Frees all memory of the event.
void jackfield_arena_reset(void);
// The bytes of all regions beside the static one.
size_t jackfield_arena_grown_bytes(void);

#endif
