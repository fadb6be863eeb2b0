//! How many files the process may have open: each connection is one.

use tracing::{debug, info, warn};

use crate::limits::{CONNECTIONS_MAX, OTHER_FILES_MAX};

/// Asks the system for as many as it grants, and says where that is fewer than the connections need.
pub fn raise(connections_max: usize) {
    let files = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => files,
        Err(error) => {
            warn!(%error, "the limit of open files cannot be raised: with many connections no further one is accepted");
            return;
        }
    };
    let connections = files.saturating_sub(OTHER_FILES_MAX);
    if connections >= connections_max as u64 {
        debug!(files, "open files");
        return;
    }
    let text = format!(
        "the system lets this process open {files} files, which is enough for {connections} connections and not for \
         {connections_max} (connections_max in [server]); for more, raise the hard limit of open files: ulimit -Hn, \
         or LimitNOFILE= of systemd"
    );
    // Who has not asked for so many hardly misses them.
    if connections_max == CONNECTIONS_MAX { info!("{text}") } else { warn!("{text}") }
}
