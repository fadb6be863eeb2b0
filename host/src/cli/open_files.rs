//! The limit of open files of the process. Each connection is an open file, and each component, whose code is mapped.

use std::io;

use tracing::{debug, info, warn};

use crate::limits::{CONNECTIONS_MAX, OTHER_FILES_MAX};

/// Raises the limit as far as the system allows, and returns it.
pub fn raise() -> io::Result<u64> {
    rlimit::increase_nofile_limit(u64::MAX)
}

/// Logs if the limit that `raise` returned is not enough for `connections_max` connections in addition to this number
/// of components.
pub fn report(files: io::Result<u64>, connections_max: usize, components: usize) {
    let files = match files {
        Ok(files) => files,
        Err(error) => {
            warn!(%error, "cannot raise the limit of open files: new connections fail when it is reached");
            return;
        }
    };
    let connections = files.saturating_sub(OTHER_FILES_MAX).saturating_sub(components as u64);
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
