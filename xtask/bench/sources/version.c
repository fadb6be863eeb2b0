#include <jackfield.h>

jackfield_response jackfield_on_message(const jackfield_context *context, const jackfield_message *message) {
    (void)context;
    (void)message;
    return jackfield_reply_text(JACKFIELD_TEXT("VERSION"));
}
