//! Who has access: callers of `@connections`, users and API keys, as the manifest says now.
//!
//! It is no part of a deployment: one that is rolled back to brings no key back that was taken away.

use std::sync::Arc;

use crate::gateway::{ApiKeys, Management, Users};

#[derive(Clone, Default)]
pub struct Access {
    pub management: Arc<Management>,
    pub users: Arc<Users>,
    pub api_keys: Arc<ApiKeys>,
}
