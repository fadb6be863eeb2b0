//! The binary: arguments -> a verb -> an exit code.

use std::process::ExitCode;

/// What Cargo.toml says of it, measured.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    jackfield::cli::main()
}
