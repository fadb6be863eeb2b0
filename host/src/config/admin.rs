//! `[admin]`: where an operator is answered.

use toml::de::DeValue;

use super::Admin;
use super::section::Section;
use super::value::{self, Wrong};

fn variable(value: &DeValue<'_>) -> Result<String, Wrong> {
    let name = value::text(value)?;
    value::variable_name(name).map(|()| name.to_owned())
}

pub fn admin(mut section: Section<'_>) -> Option<Admin> {
    let listen = section.read("listen", value::listen_address);
    let token_env = section.read("token_env", variable);
    if token_env.is_some() && !section.is_written("listen") {
        let problem = "admin.token_env: found without listen, so nobody asks for it".to_owned();
        section.problems.warning(section.span_of("token_env"), problem, "add listen = \"127.0.0.1:3002\"");
    }
    section.finish();
    Some(Admin { listen: listen?, token_env })
}
