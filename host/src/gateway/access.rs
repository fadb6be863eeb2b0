//! Access settings of the current manifest: callers of `@connections`, users, API keys and the origins of web pages.
//!
//! They are not part of a deployment. They follow the manifest on the disk alone and at once, so that neither a rollback
//! nor a component that does not load makes a removed key valid again.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::address::OriginPattern;
use crate::gateway::{ApiKeys, Management, Users};

#[derive(Clone, Default)]
pub struct Access {
    pub management: Arc<Management>,
    pub users: Arc<Users>,
    pub api_keys: Arc<ApiKeys>,
    /// The origins of web pages that may connect; `None`: all.
    pub origins: Option<Arc<BTreeSet<OriginPattern>>>,
}
