//! Which version this is: a test writes another number into the bytes of the component.

static VERSION: [u8; 24] = *b"hostile version 00000000";

pub fn number() -> &'static str {
    // Or the compiler would know what is in there.
    let version = std::hint::black_box(&VERSION);
    str::from_utf8(&version[16..]).unwrap_or("no number")
}
