//! The limit of open files of the process. Each connection is an open file, and each component, whose code is mapped.

use std::io;

use tracing::{debug, info, warn};

use crate::limits::{CONNECTIONS_MAX, GUEST_DESCRIPTORS_MAX, GUEST_DESCRIPTORS_SHARE, OTHER_FILES_MAX};

/// Raises the limit as far as the system allows, and returns it.
pub fn raise() -> io::Result<u64> {
    rlimit::increase_nofile_limit(u64::MAX)
}

/// Returns how many of the open files that `raise` returned all events together may use.
pub fn guest_share(files: &io::Result<u64>) -> usize {
    let share = files.as_ref().map_or(OTHER_FILES_MAX, |files| files / GUEST_DESCRIPTORS_SHARE);
    usize::try_from(share).unwrap_or(usize::MAX).min(GUEST_DESCRIPTORS_MAX)
}

/// Logs if the limit that `raise` returned is not enough for `connections_max` connections in addition to this number
/// of components and to what events may open.
pub fn report(files: io::Result<u64>, connections_max: usize, components: usize) {
    let reserved = OTHER_FILES_MAX + components as u64 + guest_share(&files) as u64;
    let files = match files {
        Ok(files) => files,
        Err(error) => {
            warn!(%error, "cannot raise the limit of open files: new connections fail when it is reached");
            return;
        }
    };
    let connections = files.saturating_sub(reserved);
    if connections >= connections_max as u64 {
        debug!(files, "limit of open files");
        return;
    }
    let text = format!(
        "the system limits this process to {files} open files, which is enough for {connections} connections, but not \
         for {connections_max} (connections_max in [server]); to allow more, raise the hard limit of open files: \
         ulimit -Hn, or LimitNOFILE= of systemd"
    );
    // If the operator kept the default of connections_max, the lower limit is probably no problem.
    if connections_max == CONNECTIONS_MAX { info!("{text}") } else { warn!("{text}") }
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
}
