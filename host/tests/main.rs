//! Tests of the real binary on a free port, with published clients and real components.
//!
//! Each file covers one area. `cargo xtask test` builds the guests that the tests need. The first block of modules are
//! helpers, the second one has the tests.

mod backend;
mod bombs;
mod browser;
mod harness;
mod signer;
mod wat;
mod wire;

mod access;
mod access_log;
mod api_keys;
mod authorizers;
mod bad_input;
mod broadcast;
mod capabilities;
mod cli;
mod clients;
mod code_cache;
mod components;
mod conformance;
mod connect;
mod deployments;
mod dev;
mod endings;
mod event_json;
mod engine;
mod guest_memory;
mod half_written;
mod harm;
mod https;
mod iam;
mod import;
mod integrations;
mod javascript;
mod jwt;
mod lambda;
mod lambda_runtime;
mod limits;
mod loading;
mod log;
mod management;
mod messages;
mod metrics;
mod models;
mod ordering;
mod places;
mod print_event;
mod quarantine;
mod reload;
mod reload_under_load;
mod reuse;
mod rollback;
mod routes;
mod scripts;
mod sdks;
mod shares;
mod signatures;
mod slow_peers;
mod stages;
mod store;
mod store_files;
mod throttles;
mod worker;
