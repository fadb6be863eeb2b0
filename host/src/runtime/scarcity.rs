//! Distinguishes errors of a component from a lack of resources, after which the same file may load.

use std::io;

use rustix::io::Errno;
use wasmtime::PoolConcurrencyLimitError;

use crate::worker::CompileError;

/// A load failed for lack of memory, open files, pool slots or the like. The text describes the failure.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LacksResources(pub String);

/// Whether a load failed because the machine lacked memory, open files, pool slots or the like.
pub fn is_scarcity(error: &anyhow::Error) -> bool {
    error.is::<LacksResources>() || error.chain().any(is_scarce_cause)
}

/// As `is_scarcity`, for an error of wasmtime.
pub(super) fn is_guest_scarcity(error: &wasmtime::Error) -> bool {
    error.is::<PoolConcurrencyLimitError>() || error.chain().any(is_scarce_cause)
}

/// Whether an operation failed for lack of memory, open files or the like, or because the disk failed.
fn is_io_scarcity(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(is_scarce_errno) || error.kind() == io::ErrorKind::OutOfMemory
}

fn is_scarce_cause(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(is_io_scarcity)
        || cause.downcast_ref::<Errno>().is_some_and(|errno| is_scarce_errno(errno.raw_os_error()))
        || cause.is::<PoolConcurrencyLimitError>()
        || cause.is::<LacksResources>()
        || cause.downcast_ref::<CompileError>().is_some_and(CompileError::is_temporary)
}

fn is_scarce_errno(errno: i32) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN, Errno::NOSPC, Errno::DQUOT, Errno::IO]
        .iter()
        .any(|scarce| scarce.raw_os_error() == errno)
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn a_lack_of_resources_is_recognised_below_every_context_and_other_errors_are_not() {
        let io_error = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN, Errno::IO] {
            assert!(is_io_scarcity(&io_error(errno)), "{errno}");
            assert!(is_scarcity(&anyhow::Error::from(io_error(errno)).context("it cannot be compiled")), "{errno}");
        }
        let killed = Err::<(), _>(LacksResources("killed".to_owned())).context("it cannot be compiled");
        assert!(is_scarcity(&killed.unwrap_err()));
        for errno in [Errno::NOENT, Errno::ACCESS, Errno::ISDIR] {
            assert!(!is_io_scarcity(&io_error(errno)), "{errno}");
        }
        assert!(!is_scarcity(&anyhow!("it is truncated or damaged")));
    }
}
