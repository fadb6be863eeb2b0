//! Builds the bundler, which makes one script of a handler's files and packages.

use std::fs;

use anyhow::Context as _;

use crate::setup;
use crate::step::{cargo_in, step, target};

/// The file name of the bundler. The host looks for it beside its own binary.
pub const NAME: &str = "jackfield-bundler";

/// Builds the bundler, and puts it beside the binaries of the host.
pub fn build() -> anyhow::Result<()> {
    setup::build_tools()?;
    let folder = target().join("bundler");
    let mut cargo = cargo_in("bundler");
    cargo.args(["build", "--locked", "--target-dir"]).arg(&folder);
    step("building the bundler (the first time about 3 minutes on 2 cores)", &mut cargo)?;
    let built = folder.join("debug").join(NAME);
    for profile in ["debug", "release"].map(|profile| target().join(profile)) {
        fs::create_dir_all(&profile).with_context(|| format!("cannot create the folder {}", profile.display()))?;
        // A running bundler keeps the file that it was started from.
        let (copy, place) = (profile.join(format!(".{NAME}")), profile.join(NAME));
        fs::copy(&built, &copy)
            .and_then(|_| fs::rename(&copy, &place))
            .with_context(|| format!("cannot copy the bundler to {}", place.display()))?;
    }
    Ok(())
}
