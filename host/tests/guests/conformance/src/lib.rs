//! The handler of the conformance cases, which the SDK also runs on its test double.

jackfield_sdk::export!(jackfield_sdk::conformance::Conformance);
