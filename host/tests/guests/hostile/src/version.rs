//! The version of the component. A test writes another number into the bytes of the component.

static VERSION: [u8; 24] = *b"hostile version 00000000";

pub fn number() -> &'static str {
    // Without `black_box` the compiler could replace the read by the value that it knows.
    let version = std::hint::black_box(&VERSION);
    str::from_utf8(&version[16..]).unwrap_or("no number")
}
