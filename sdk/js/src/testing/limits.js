// The limits of the real host, in bytes where nothing else is said.

export const MESSAGE_BYTES_MAX = 128 * 1024;
export const CLOSE_REASON_BYTES_MAX = 123;
export const FRAME_BYTES_MAX = 32 * 1024;
export const ROW_ATTRIBUTES_MAX = 64;
export const ATTRIBUTE_NAME_BYTES_MAX = 64;
export const ATTRIBUTE_VALUE_BYTES_MAX = 1024;
export const KEY_BYTES_MAX = 1024;
export const VALUE_BYTES_MAX = 400 * 1024;
export const PAGE_ITEMS = 256;
/** A page of rows ends when its attributes have this many bytes. */
export const PAGE_BYTES = VALUE_BYTES_MAX;
export const BATCH_KEYS_MAX = 256;
/** All parameters of one call, and all values that one call returns. */
export const CALL_BYTES_MAX = 2 * 1024 * 1024;
/** What a string or a list within a list counts in addition to its bytes. */
export const ELEMENT_BYTES = 24;
export const BUCKET_BYTES_MAX = 64 * 1024 * 1024;
export const BUCKET_KEYS_MAX = 100_000;
/** Connections that `postToMatching` reaches for each host call that it counts as. */
export const TURN_POSTS = 64;
/** The default of `host_calls`: calls of one event that send or store something. */
export const EVENT_HOST_CALLS = 10_000;
/** The names and values that an authorizer grants, with the principal id. */
export const GRANT_BYTES_MAX = 8 * 1024;
