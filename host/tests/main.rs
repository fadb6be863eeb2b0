//! jackfield as its users meet it: the real binary on a free port, real clients, real components.
//!
//! Each file tells one part of the story. `cargo xtask test` builds the guests that they need.

mod harness;
mod signer;
mod backend;
mod wire;
mod wat;
mod browser;

mod access_log;
mod api_keys;
mod authorizers;
mod bad_input;
mod capabilities;
mod cli;
mod clients;
mod components;
mod connect;
mod crowd;
mod deployments;
mod dev;
mod endings;
mod iam;
mod import;
mod https;
mod integrations;
mod jwt;
mod lambda;
mod lambda_runtime;
mod limits;
mod loading;
mod management;
mod messages;
mod metrics;
mod models;
mod ordering;
mod print_event;
mod reload;
mod reload_under_load;
mod reuse;
mod routes;
mod sdks;
mod signatures;
mod slow_peers;
mod stages;
mod store;
mod throttles;
