//! The binary: parses arguments, runs one command and returns its exit code.

use std::process::ExitCode;

/// jemalloc: Cargo.toml has the measurements that led to it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    jackfield::cli::main()
}
