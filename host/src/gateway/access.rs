//! Access settings of the current manifest: callers of `@connections`, users and API keys.
//!
//! They are not part of a deployment, so a roll-back does not make a removed key valid again.

use std::sync::Arc;

use crate::gateway::{ApiKeys, Management, Users};

#[derive(Clone, Default)]
pub struct Access {
    pub management: Arc<Management>,
    pub users: Arc<Users>,
    pub api_keys: Arc<ApiKeys>,
}
