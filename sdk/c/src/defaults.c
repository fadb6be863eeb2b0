// The callbacks of a plugin that does not define them.
#include "jackfield.h"

__attribute__((weak)) jackfield_response jackfield_on_connect(const jackfield_context *context,
                                                              const jackfield_connect *request) {
    (void)context, (void)request;
    return jackfield_ok();
}

__attribute__((weak)) jackfield_response jackfield_on_message(const jackfield_context *context,
                                                              const jackfield_message *message) {
    (void)context, (void)message;
    return jackfield_ok();
}

__attribute__((weak)) jackfield_response jackfield_on_disconnect(const jackfield_context *context,
                                                                 const jackfield_disconnect *event) {
    (void)context, (void)event;
    return jackfield_ok();
}
