// Key-value buckets, for the test double.
#ifndef __wasm__

#include "double.h"

jackfield_error jackfield_kv_open(jackfield_text name, jackfield_bucket *opened) {
    check_parameters(name.length);
    if (!jackfield_double.buckets) return failed(JACKFIELD_ACCESS_DENIED, "");
    for (bucket *b = jackfield_double.buckets; b; b = b->next) {
        if (!jackfield_text_equals(b->name, name)) continue;
        if (jackfield_double.open_count == HANDLES_MAX) stop("too many open buckets");
        jackfield_double.open_buckets[jackfield_double.open_count] = b;
        opened->handle = (int32_t)jackfield_double.open_count++;
        return JACKFIELD_OK;
    }
    return failed(JACKFIELD_NO_SUCH_STORE, "");
}

void jackfield_kv_close(jackfield_bucket bucket) {
    (void)bucket;
}

static bucket *opened(jackfield_bucket handle) {
    bool is_open = handle.handle >= 0 && (size_t)handle.handle < jackfield_double.open_count;
    if (!is_open) stop("the bucket is not open in this event");
    return jackfield_double.open_buckets[handle.handle];
}

static pair **find(bucket *b, jackfield_text key) {
    pair **link = &b->pairs;
    while (*link && compared((*link)->key, key) < 0) link = &(*link)->next;
    return link;
}

static pair *found_at(pair **link, jackfield_text key) {
    return *link && jackfield_text_equals((*link)->key, key) ? *link : NULL;
}

static jackfield_bytes event_bytes(jackfield_text value) {
    uint8_t *copy = jackfield_alloc(value.length + 1);
    if (value.length > 0) memcpy(copy, value.data, value.length);
    return (jackfield_bytes){copy, value.length};
}

static jackfield_error check_key(jackfield_text key) {
    return key.length <= KEY_BYTES_MAX ? JACKFIELD_OK : failed(JACKFIELD_KV_FAILED, "a key has at most 1024 bytes");
}

static jackfield_error check_value(size_t length) {
    return length <= VALUE_BYTES_MAX ? JACKFIELD_OK : failed(JACKFIELD_KV_FAILED, "a value has at most 409600 bytes");
}

// Writes a value, if the bucket has space for it. A write that adds neither keys nor bytes always fits.
static jackfield_error store_pair(bucket *b, jackfield_text key, jackfield_text value) {
    uint64_t bytes = 0, keys = 0;
    for (pair *p = b->pairs; p; p = p->next, keys++) bytes += p->key.length + p->value.length;
    pair **link = find(b, key), *before = found_at(link, key);
    uint64_t bytes_after = bytes - (before ? before->key.length + before->value.length : 0) + key.length + value.length;
    if ((!before && keys + 1 > b->keys_max) || (bytes_after > b->bytes_max && bytes_after > bytes)) {
        return failed(JACKFIELD_KV_FAILED, "the bucket is full");
    }
    if (before) {
        before->value = copied(value);
        return JACKFIELD_OK;
    }
    pair *made = jackfield_double_allocate(sizeof(pair));
    *made = (pair){*link, copied(key), copied(value)};
    *link = made;
    return JACKFIELD_OK;
}

static void read_pair(bucket *b, jackfield_text key, bool *found, jackfield_bytes *value) {
    pair *p = found_at(find(b, key), key);
    *found = p != NULL;
    *value = p ? event_bytes(p->value) : (jackfield_bytes){NULL, 0};
}

static void remove_pair(bucket *b, jackfield_text key) {
    pair **link = find(b, key);
    if (found_at(link, key)) *link = (*link)->next;
}

jackfield_error jackfield_kv_get(jackfield_bucket handle, jackfield_text key, bool *found, jackfield_bytes *value) {
    check_parameters(key.length);
    *found = false;
    *value = (jackfield_bytes){NULL, 0};
    jackfield_error error = check_key(key);
    if (error == JACKFIELD_OK) read_pair(opened(handle), key, found, value);
    return error;
}

jackfield_error jackfield_kv_set(jackfield_bucket handle, jackfield_text key, jackfield_bytes value) {
    check_parameters(key.length + value.length);
    jackfield_error error = check_key(key);
    if (error == JACKFIELD_OK) error = check_value(value.length);
    if (error != JACKFIELD_OK) return error;
    return store_pair(opened(handle), key, (jackfield_text){(const char *)value.data, value.length});
}

jackfield_error jackfield_kv_delete(jackfield_bucket handle, jackfield_text key) {
    check_parameters(key.length);
    jackfield_error error = check_key(key);
    if (error == JACKFIELD_OK) remove_pair(opened(handle), key);
    return error;
}

jackfield_error jackfield_kv_exists(jackfield_bucket handle, jackfield_text key, bool *exists) {
    jackfield_bytes value;
    return jackfield_kv_get(handle, key, exists, &value);
}

// Reads an optional sign and decimal digits.
static bool read_number(jackfield_text text, int64_t *number) {
    size_t at = text.length > 0 && (text.data[0] == '-' || text.data[0] == '+');
    bool is_negative = at > 0 && text.data[0] == '-';
    uint64_t sum = 0, limit = is_negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
    if (at == text.length) return false;
    for (; at < text.length; at++) {
        if (text.data[at] < '0' || text.data[at] > '9') return false;
        uint64_t digit = (uint64_t)(text.data[at] - '0');
        if (sum > (limit - digit) / 10) return false;
        sum = sum * 10 + digit;
    }
    *number = is_negative ? (int64_t)(0 - sum) : (int64_t)sum;
    return true;
}

jackfield_error jackfield_kv_increment(jackfield_bucket handle, jackfield_text key, int64_t delta, int64_t *value) {
    check_parameters(key.length);
    jackfield_error error = check_key(key);
    if (error != JACKFIELD_OK) return error;
    bucket *b = opened(handle);
    pair *p = found_at(find(b, key), key);
    int64_t now = 0, sum;
    if (p && !read_number(p->value, &now)) return failed(JACKFIELD_KV_FAILED, "the value is not a decimal number");
    bool is_too_large = __builtin_add_overflow(now, delta, &sum);
    if (is_too_large) return failed(JACKFIELD_KV_FAILED, "the sum is more than a number can be");
    char digits[24];
    snprintf(digits, sizeof(digits), "%lld", (long long)sum);
    error = store_pair(b, key, jackfield_text_from(digits));
    if (error == JACKFIELD_OK) *value = sum;
    return error;
}

jackfield_error jackfield_kv_list_keys(jackfield_bucket handle, const jackfield_text *cursor, jackfield_key_page *page) {
    check_parameters(optional_bytes(cursor));
    jackfield_text *keys = jackfield_alloc(PAGE_ITEMS * sizeof(jackfield_text));
    size_t count = 0;
    bool is_last = true;
    for (pair *p = opened(handle)->pairs; p; p = p->next) {
        if (cursor && compared(p->key, *cursor) <= 0) continue;
        if (count == PAGE_ITEMS) {
            is_last = false;
            break;
        }
        jackfield_bytes copy = event_bytes(p->key);
        keys[count++] = (jackfield_text){(const char *)copy.data, copy.length};
    }
    *page = (jackfield_key_page){{keys, count}, !is_last, is_last ? (jackfield_text){NULL, 0} : keys[count - 1]};
    return JACKFIELD_OK;
}

// Checks all keys before the first one is used, so that a batch with a bad key changes nothing.
static jackfield_error check_keys(jackfield_texts keys) {
    if (keys.count > BATCH_KEYS_MAX) return failed(JACKFIELD_KV_FAILED, "one call has at most 256 keys");
    for (size_t i = 0; i < keys.count; i++) {
        jackfield_error error = check_key(keys.items[i]);
        if (error != JACKFIELD_OK) return error;
    }
    return JACKFIELD_OK;
}

jackfield_error jackfield_kv_get_many(jackfield_bucket handle, jackfield_texts keys, const jackfield_entry **entries) {
    check_parameters(texts_bytes(keys));
    jackfield_error error = check_keys(keys);
    if (error != JACKFIELD_OK) return error;
    jackfield_entry *found = jackfield_alloc((keys.count + 1) * sizeof(jackfield_entry));
    size_t bytes = 0;
    for (size_t i = 0; i < keys.count; i++) {
        found[i].key = keys.items[i];
        read_pair(opened(handle), keys.items[i], &found[i].found, &found[i].value);
        bytes += found[i].value.length;
    }
    if (bytes > CALL_BYTES_MAX) return failed(JACKFIELD_KV_FAILED, "one call has at most 2 MiB of values");
    *entries = found;
    return JACKFIELD_OK;
}

jackfield_error jackfield_kv_set_many(jackfield_bucket handle, const jackfield_pair *pairs, size_t count) {
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) bytes += pairs[i].key.length + pairs[i].value.length + 2 * ELEMENT_BYTES;
    check_parameters(bytes);
    if (count > BATCH_KEYS_MAX) return failed(JACKFIELD_KV_FAILED, "one call has at most 256 keys");
    jackfield_error error = JACKFIELD_OK;
    for (size_t i = 0; i < count && error == JACKFIELD_OK; i++) error = check_key(pairs[i].key);
    for (size_t i = 0; i < count && error == JACKFIELD_OK; i++) error = check_value(pairs[i].value.length);
    for (size_t i = 0; i < count && error == JACKFIELD_OK; i++) {
        jackfield_text value = {(const char *)pairs[i].value.data, pairs[i].value.length};
        error = store_pair(opened(handle), pairs[i].key, value);
    }
    return error;
}

jackfield_error jackfield_kv_delete_many(jackfield_bucket handle, jackfield_texts keys) {
    check_parameters(texts_bytes(keys));
    jackfield_error error = check_keys(keys);
    for (size_t i = 0; i < keys.count && error == JACKFIELD_OK; i++) remove_pair(opened(handle), keys.items[i]);
    return error;
}

static cas *handle_of(jackfield_cas handle) {
    bool is_open = handle.handle >= 0 && (size_t)handle.handle < jackfield_double.handle_count;
    if (!is_open) stop("the handle is not open in this event");
    return &jackfield_double.handles[handle.handle];
}

static void read_again(cas *c) {
    pair *p = found_at(find(c->bucket, c->key), c->key);
    c->found = p != NULL;
    c->seen = p ? p->value : (jackfield_text){NULL, 0};
}

jackfield_error jackfield_cas_new(jackfield_bucket handle, jackfield_text key, jackfield_cas *made) {
    check_parameters(key.length);
    jackfield_error error = check_key(key);
    if (error != JACKFIELD_OK) return error;
    if (jackfield_double.handle_count == HANDLES_MAX) stop("too many open handles");
    cas *c = &jackfield_double.handles[jackfield_double.handle_count];
    *c = (cas){.bucket = opened(handle), .key = copied(key)};
    read_again(c);
    made->handle = (int32_t)jackfield_double.handle_count++;
    return JACKFIELD_OK;
}

jackfield_error jackfield_cas_current(jackfield_cas handle, bool *found, jackfield_bytes *value) {
    cas *c = handle_of(handle);
    read_again(c);
    *found = c->found;
    *value = c->found ? event_bytes(c->seen) : (jackfield_bytes){NULL, 0};
    return JACKFIELD_OK;
}

jackfield_error jackfield_cas_swap(jackfield_cas *handle, jackfield_bytes value) {
    check_parameters(value.length);
    cas *c = handle_of(*handle), seen = *c;
    jackfield_error error = check_value(value.length);
    if (error != JACKFIELD_OK) return error;
    read_again(c);
    if (c->found != seen.found || !jackfield_text_equals(c->seen, seen.seen)) return failed(JACKFIELD_CAS_FAILED, "");
    return store_pair(c->bucket, c->key, (jackfield_text){(const char *)value.data, value.length});
}

#endif
