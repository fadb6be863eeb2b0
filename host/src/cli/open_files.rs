//! The limit of open files of the process. Each connection is an open file, and each component, whose code is mapped.

use std::io;

use tracing::{debug, info, warn};

use crate::limits::{
    CONNECTION_FILES_DIVISOR, CONNECTIONS_MAX, GUEST_DESCRIPTORS_MAX, GUEST_DESCRIPTORS_SHARE,
    OPERATOR_CONNECTIONS_MAX, OTHER_FILES_MAX, RESERVED_CONNECTIONS,
};

/// Open files of connections that have places of their own: those of a full server, of `/metrics` and of the admin
/// listener.
const RESERVED_FILES: u64 = (RESERVED_CONNECTIONS + 2 * OPERATOR_CONNECTIONS_MAX) as u64;

/// Raises the limit as far as the system allows, and returns it.
pub fn raise() -> io::Result<u64> {
    rlimit::increase_nofile_limit(u64::MAX)
}

/// Returns how many of the open files that `raise` returned all events together may use.
pub fn guest_share(files: &io::Result<u64>) -> usize {
    let share = files.as_ref().map_or(OTHER_FILES_MAX, |files| files / GUEST_DESCRIPTORS_SHARE);
    usize::try_from(share).unwrap_or(usize::MAX).min(GUEST_DESCRIPTORS_MAX)
}

/// Returns how many connections the server may accept: `connections_max`, or fewer if the limit that `raise` returned is
/// not enough for so many in addition to this number of components, to what events may open and to connections that have
/// places of their own. Logs it then.
pub fn connections(files: &io::Result<u64>, connections_max: usize, components: usize) -> usize {
    let limit = match files {
        Ok(limit) => *limit,
        Err(error) => {
            warn!(%error, "cannot raise the limit of open files: new connections fail when it is reached");
            return connections_max;
        }
    };
    let reserved = OTHER_FILES_MAX + RESERVED_FILES + components as u64 + guest_share(files) as u64;
    let possible = limit.saturating_sub(reserved).max(limit / CONNECTION_FILES_DIVISOR);
    let possible = usize::try_from(possible).unwrap_or(usize::MAX);
    if possible >= connections_max {
        debug!(limit, "limit of open files");
        return connections_max;
    }
    let text = format!(
        "the system limits this process to {limit} open files, which is enough for {possible} connections, but not \
         for {connections_max} (connections_max in [server]), so no more are accepted; to allow more, raise the hard \
         limit of open files: ulimit -Hn, or LimitNOFILE= of systemd"
    );
    // If the operator kept the default of connections_max, the lower limit is probably no problem.
    if connections_max == CONNECTIONS_MAX {
        info!("{text}")
    } else {
        warn!("{text}")
    }
    possible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_a_quarter_of_the_open_files_up_to_their_own_limits() {
        for (files, share) in [(1024, 256), (65_535, 16_383), (65_536, 16_384), (u64::MAX, 16_384)] {
            assert_eq!(guest_share(&Ok(files)), share, "{files}");
        }
        assert_eq!(guest_share(&Err(io::Error::other("unknown"))), 256);
    }

    #[test]
    fn connections_have_the_open_files_that_are_left_and_at_least_a_quarter() {
        // 256 other files, 64 for a full server, 128 of operators, one component, and a quarter for events.
        for (files, connections) in [(998, 300), (1000, 301), (600, 150), (4, 1)] {
            assert_eq!(super::connections(&Ok(files), 301, 1), connections, "{files}");
        }
        assert_eq!(super::connections(&Ok(u64::MAX), 301, 1), 301);
        assert_eq!(super::connections(&Err(io::Error::other("unknown")), 301, 1), 301);
    }
}
