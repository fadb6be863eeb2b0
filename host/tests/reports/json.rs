//! JSON and expressions: paths, surrogates, numbers, byte order marks.
