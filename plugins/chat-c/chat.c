// A chat in which each user can have several tabs: the same as plugins/chat, in C.
//
// A tab is a connection, and its row in the connection store has the name of its user. Nothing else is stored: a user is
// online if there is a row with that name.
#include <stdlib.h>
#include <string.h>

#include <jackfield.h>
#include <jackfield_json.h>

// The attribute with the user of a connection.
#define USER JACKFIELD_TEXT("user")
// The attribute that every tab has, so that one post is sent to all of them.
#define EVERYONE JACKFIELD_TEXT("in"), JACKFIELD_TEXT("chat")
// Longest accepted name, because every user sees it.
#define NAME_CHARS_MAX 32

// ---- texts ---------------------------------------------------------------------------------------------------------

// Returns the length of the white space at the start of a text, as Unicode defines it, or 0.
static size_t space_length(jackfield_text text) {
    static const char *const spaces[] = {
        "\t",           "\n",           "\v",           "\f",           "\r",           " ",            "\xc2\x85",
        "\xc2\xa0",       "\u1680",       "\u2000",       "\u2001",       "\u2002",       "\u2003",       "\u2004",
        "\u2005",       "\u2006",       "\u2007",       "\u2008",       "\u2009",       "\u200a",       "\u2028",
        "\u2029",       "\u202f",       "\u205f",       "\u3000",
    };
    for (size_t i = 0; i < sizeof(spaces) / sizeof(*spaces); i++) {
        size_t length = strlen(spaces[i]);
        if (text.length >= length && memcmp(text.data, spaces[i], length) == 0) return length;
    }
    return 0;
}

static bool starts_character(char byte) {
    return ((unsigned char)byte & 0xc0) != 0x80;
}

static jackfield_text trimmed(jackfield_text text) {
    for (size_t length; (length = space_length(text)) > 0;) {
        text.data += length;
        text.length -= length;
    }
    while (text.length > 0) {
        size_t last = text.length - 1;
        while (last > 0 && !starts_character(text.data[last])) last--;
        if (space_length((jackfield_text){text.data + last, text.length - last}) == 0) break;
        text.length = last;
    }
    return text;
}

static size_t count_characters(jackfield_text text) {
    size_t count = 0;
    for (size_t i = 0; i < text.length; i++) count += starts_character(text.data[i]);
    return count;
}

static int compare_texts(const void *a, const void *b) {
    const jackfield_text *left = a, *right = b;
    size_t shorter = left->length < right->length ? left->length : right->length;
    int order = memcmp(left->data, right->data, shorter);
    return order ? order : (left->length > right->length) - (left->length < right->length);
}

// ---- notices -------------------------------------------------------------------------------------------------------

// A message to a tab: an object with its type and up to two texts.
static jackfield_text notice(const char *type, const char *name, jackfield_text value, const char *name2,
                             jackfield_text value2) {
    jackfield_json_writer writer = {0};
    jackfield_json_begin_object(&writer);
    jackfield_json_add_name(&writer, "type");
    jackfield_json_add_string(&writer, jackfield_text_from(type));
    jackfield_json_add_name(&writer, name);
    jackfield_json_add_string(&writer, value);
    if (name2) {
        jackfield_json_add_name(&writer, name2);
        jackfield_json_add_string(&writer, value2);
    }
    jackfield_json_end_object(&writer);
    return jackfield_json_written(&writer);
}

static jackfield_text user_notice(const char *type, jackfield_text user) {
    return notice(type, "user", user, NULL, JACKFIELD_TEXT(""));
}

static jackfield_response error_reply(jackfield_text message) {
    return jackfield_reply_text(notice("error", "message", message, NULL, JACKFIELD_TEXT("")));
}

static jackfield_error post_to_others(const jackfield_context *context, jackfield_text text) {
    return jackfield_post_to_matching(EVERYONE, jackfield_text_payload(text), &context->connection_id, NULL);
}

// ---- users ---------------------------------------------------------------------------------------------------------

static const jackfield_text *user_in(const jackfield_row *row) {
    return jackfield_value(row->attributes, "user");
}

// Stores the user of a connection, or returns false and stores the failure.
static bool user_of(const jackfield_context *context, jackfield_text *user, jackfield_response *failure) {
    jackfield_row row;
    jackfield_error error = jackfield_store_get(context->connection_id, &row);
    const jackfield_text *found = error == JACKFIELD_OK ? user_in(&row) : NULL;
    if (error != JACKFIELD_OK) {
        *failure = jackfield_fail_with(error);
    } else if (!found) {
        *failure = jackfield_fail(JACKFIELD_TEXT("the connection has no user"));
    } else {
        *user = *found;
    }
    return found != NULL;
}

static jackfield_error has_tab(jackfield_text user, bool *result) {
    jackfield_rows rows = jackfield_rows_with(USER, user);
    *result = jackfield_rows_next(&rows);
    return rows.error;
}

// ---- events --------------------------------------------------------------------------------------------------------

jackfield_response jackfield_on_connect(const jackfield_context *context, const jackfield_connect *request) {
    const jackfield_text *parameter = jackfield_query(request, "userId");
    jackfield_text user = parameter ? trimmed(*parameter) : JACKFIELD_TEXT("");
    if (user.length == 0 || count_characters(user) > NAME_CHARS_MAX) return jackfield_status(400);
    // The other tabs of the user are looked up before this one is stored. If two first tabs connect at the same moment,
    // both may find no other tab and post the notice twice, which does no harm. If they stored themselves first, each
    // would find the other, and no notice would be posted.
    bool has_other_tab;
    jackfield_error error = has_tab(user, &has_other_tab);
    if (error != JACKFIELD_OK) return jackfield_fail_with(error);
    jackfield_field attributes[] = {{USER, user}, {EVERYONE}};
    error = jackfield_store_put(context->connection_id, (jackfield_fields){attributes, 2});
    if (error == JACKFIELD_OK && !has_other_tab) error = post_to_others(context, user_notice("joined", user));
    return error == JACKFIELD_OK ? jackfield_ok() : jackfield_fail_with(error);
}

jackfield_response jackfield_on_disconnect(const jackfield_context *context, const jackfield_disconnect *event) {
    (void)event;
    jackfield_text user;
    jackfield_response failure;
    if (!user_of(context, &user, &failure)) return failure;
    // The row of this connection exists until this handler has run. The name is removed from it first, so that if the
    // last two tabs of a user close at the same moment, at least one of them finds no other tab.
    bool has_other_tab = false;
    jackfield_error error = jackfield_store_remove(context->connection_id, USER, NULL);
    if (error == JACKFIELD_OK) error = has_tab(user, &has_other_tab);
    if (error == JACKFIELD_OK && !has_other_tab) error = post_to_others(context, user_notice("left", user));
    return error == JACKFIELD_OK ? jackfield_ok() : jackfield_fail_with(error);
}

static jackfield_response send_message(const jackfield_context *context, const jackfield_message *message) {
    const jackfield_json *document;
    jackfield_text to, content, from;
    jackfield_response failure;
    jackfield_json_parse(message->body.content, &document, NULL);
    if (!jackfield_json_string(jackfield_json_get(document, "to"), &to) ||
        !jackfield_json_string(jackfield_json_get(document, "content"), &content)) {
        return error_reply(JACKFIELD_TEXT("a message needs \"to\" and \"content\""));
    }
    if (!user_of(context, &from, &failure)) return failure;
    uint32_t tabs;
    jackfield_payload payload = jackfield_text_payload(notice("message", "from", from, "content", content));
    jackfield_error error = jackfield_post_to_matching(USER, to, payload, NULL, &tabs);
    if (error != JACKFIELD_OK) return jackfield_fail_with(error);
    if (tabs == 0) return error_reply(jackfield_join((jackfield_text[]){to, JACKFIELD_TEXT(" is not here")}, 2));
    if (!jackfield_text_equals(from, to)) {
        payload = jackfield_text_payload(notice("sent", "to", to, "content", content));
        error = jackfield_post_to_matching(USER, from, payload, &context->connection_id, NULL);
    }
    return error == JACKFIELD_OK ? jackfield_ok() : jackfield_fail_with(error);
}

static jackfield_response who(const jackfield_context *context, const jackfield_message *message) {
    (void)context, (void)message;
    size_t count = 0, capacity = 64;
    jackfield_text *users = jackfield_alloc(capacity * sizeof(jackfield_text));
    jackfield_rows rows = jackfield_rows_with(EVERYONE);
    while (jackfield_rows_next(&rows)) {
        const jackfield_text *user = user_in(rows.row);
        if (!user) continue;
        if (count == capacity) {
            users = jackfield_resize(users, capacity * sizeof(jackfield_text), 2 * capacity * sizeof(jackfield_text));
            capacity *= 2;
        }
        users[count++] = *user;
    }
    if (rows.error != JACKFIELD_OK) return jackfield_fail_with(rows.error);
    qsort(users, count, sizeof(jackfield_text), compare_texts);
    jackfield_json_writer writer = {0};
    jackfield_json_begin_object(&writer);
    jackfield_json_add_name(&writer, "type");
    jackfield_json_add_string(&writer, JACKFIELD_TEXT("who"));
    jackfield_json_add_name(&writer, "users");
    jackfield_json_begin_array(&writer);
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || !jackfield_text_equals(users[i - 1], users[i])) jackfield_json_add_string(&writer, users[i]);
    }
    jackfield_json_end_array(&writer);
    jackfield_json_end_object(&writer);
    return jackfield_reply_text(jackfield_json_written(&writer));
}

static jackfield_response unknown_action(const jackfield_context *context, const jackfield_message *message) {
    (void)context;
    const jackfield_json *document;
    jackfield_text action;
    jackfield_json_parse(message->body.content, &document, NULL);
    if (!jackfield_json_string(jackfield_json_get(document, "action"), &action)) {
        return error_reply(JACKFIELD_TEXT("a message is JSON with an \"action\""));
    }
    jackfield_text parts[] = {JACKFIELD_TEXT("there is no action \""), action, JACKFIELD_TEXT("\" here")};
    return error_reply(jackfield_join(parts, 3));
}

static const jackfield_route routes[] = {
    {"sendmessage", send_message},
    {"who", who},
    {"$default", unknown_action},
};

JACKFIELD_ROUTES(routes)
