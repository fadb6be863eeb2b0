//! `[admin]`: the listener for operators.

use std::net::SocketAddr;

use super::section::Section;
use super::value;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    pub listen: SocketAddr,
    /// The environment variable with the token; `None`: the server generates a token.
    pub token_env: Option<String>,
}

pub fn admin(mut section: Section<'_>) -> Option<Admin> {
    let listen = section.read("listen", value::listen_address);
    let token_env = section.read("token_env", value::environment_variable);
    if token_env.is_some() && !section.contains("listen") {
        let problem = "admin.token_env: found without listen, so it is not used".to_owned();
        section.problems.warning(section.span_of("token_env"), problem, "add listen = \"127.0.0.1:3002\"");
    }
    section.finish();
    Some(Admin { listen: listen?, token_env })
}
