//! Builds the access settings of a manifest: access keys, users and API keys.

use std::sync::Arc;

use crate::config::Config;
use crate::gateway::{Access, ApiKey, ApiKeys, Management, Users};
use crate::reload::ThrottleRegistries;

pub fn access(throttles: &ThrottleRegistries, config: &Config) -> Access {
    Access {
        management: Arc::new(management(throttles, config)),
        users: Arc::new(users(config)),
        api_keys: Arc::new(api_keys(throttles, config)),
    }
}

fn management(throttles: &ThrottleRegistries, config: &Config) -> Management {
    let management = &config.management;
    let keys = management.keys(|key| key.may_manage);
    let callers = management.throttle.map(|rate| throttles.callers(rate, keys.len()));
    Management::new(management.signatures, Arc::new(keys), callers)
}

fn users(config: &Config) -> Users {
    let keys = config.management.keys(|key| key.may_invoke);
    let named = config.management.access_keys.iter().map(|(id, key)| (id.clone(), key.user.clone()));
    Users::new(keys, named.collect())
}

fn api_keys(throttles: &ThrottleRegistries, config: &Config) -> ApiKeys {
    let keys = config.api_keys.iter().map(|(name, key)| {
        let throttle = key.throttle.map(|rate| throttles.api_key(name, rate));
        (key.hash, ApiKey { id: name.as_str().into(), stages: key.stages.clone(), throttle, quota: key.quota })
    });
    ApiKeys::new(config.api.api_key_source, keys)
}
