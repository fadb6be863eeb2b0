// Formatted texts. They are in a file of their own, so that only handlers that format have `vsnprintf`.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

jackfield_text jackfield_format(const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0) abort();
    char *text = jackfield_arena_allocate((size_t)length + 1, 1);
    vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return (jackfield_text){text, (size_t)length};
}
