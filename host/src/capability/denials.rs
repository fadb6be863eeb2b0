//! Calls of interfaces that the manifest does not grant: they return an error, and the log names the line to add.

use std::sync::atomic::{AtomicU8, Ordering};

use tracing::warn;

use crate::capability::imports::{GrantedInterface, grant_lines};
use crate::capability::{Caller, Capabilities};

/// The interfaces of one plugin for which a denied call was logged.
#[derive(Default)]
pub struct Denials(AtomicU8);

impl Denials {
    /// Returns whether this is the first denied call of an interface.
    fn is_first(&self, interface: GrantedInterface) -> bool {
        let bit = 1 << interface as u8;
        self.0.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}

impl Capabilities {
    /// Logs that a call is denied, once for each interface and version of the plugin.
    pub(super) fn log_denied(&self, interface: GrantedInterface) {
        let scope = &self.scope;
        if !scope.denials.is_first(interface) {
            return;
        }
        let Caller { route_key, connection, request_id, .. } = &self.caller;
        let (name, error, section) = (interface.name(), interface.error(), scope.section());
        let lines = grant_lines(&[interface].into(), &scope.grants).join(" and ");
        warn!(
            plugin = %scope.name,
            route = %route_key,
            connection_id = %connection.id,
            %request_id,
            "a call of {name} returned {error}, because the manifest does not grant it; to grant it, write in {section}: \
             {lines}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interface_is_logged_once() {
        let denials = Denials::default();
        for interface in [GrantedInterface::Connections, GrantedInterface::Buckets] {
            assert_eq!([(); 3].map(|()| denials.is_first(interface)), [true, false, false]);
        }
    }
}
