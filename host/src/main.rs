//! The binary: arguments -> a verb -> an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    jackfield::cli::main()
}
