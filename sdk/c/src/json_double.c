// Numbers of floating point in JSON. They are in a file of their own, so that only handlers that use them have `strtod`
// and `snprintf`.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "jackfield_json.h"

bool jackfield_json_double(const jackfield_json *value, double *number) {
    if (!value || value->type != JACKFIELD_JSON_NUMBER) return false;
    char *digits = jackfield_arena_allocate(value->text.length + 1, 1);
    memcpy(digits, value->text.data, value->text.length);
    digits[value->text.length] = 0;
    double read = strtod(digits, NULL);
    if (!isfinite(read)) return false;
    *number = read;
    return true;
}

void jackfield_json_add_double(jackfield_json_writer *writer, double number) {
    if (!isfinite(number)) {
        jackfield_json_add_null(writer);
        return;
    }
    // The shortest of these that is read back as the same number.
    char digits[32];
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(digits, sizeof(digits), "%.*g", precision, number);
        if (strtod(digits, NULL) == number) break;
    }
    jackfield_json value = {.type = JACKFIELD_JSON_NUMBER, .text = jackfield_text_from(digits)};
    jackfield_json_add_value(writer, &value);
}
