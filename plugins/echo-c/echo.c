// Sends each message back.
#include <jackfield.h>
#include <jackfield_json.h>

// Returns the content, if the message is an echo request; else the message.
static jackfield_payload content_of(jackfield_payload body) {
    const jackfield_json *request;
    jackfield_text action, content;
    if (body.is_binary || jackfield_json_parse(body.content, &request, NULL) != JACKFIELD_JSON_OK) return body;
    bool is_request = jackfield_json_string(jackfield_json_get(request, "action"), &action) &&
                      jackfield_json_string(jackfield_json_get(request, "content"), &content) &&
                      jackfield_text_equals(action, JACKFIELD_TEXT("echo"));
    return is_request ? jackfield_text_payload(content) : body;
}

jackfield_response jackfield_on_message(const jackfield_context *context, const jackfield_message *message) {
    (void)context;
    return jackfield_reply(content_of(message->body));
}
