//! Generates the bindings of the contract for languages whose compilers know nothing of components.

use std::path::Path;

use wit_bindgen_core::{Files, WorldGenerator};

use super::{contract, write_if_changed};
use crate::world::World;

/// Writes the bindings for C: a header, its implementation, and an object file with the metadata of the world.
pub fn c(world: World, folder: &Path) -> anyhow::Result<()> {
    let files = generate(world, &mut *wit_bindgen_c::Opts::default().build())?;
    files.iter().try_for_each(|(name, content)| {
        let pragma: &[u8] = if name.ends_with(".c") { NO_WARNINGS } else { b"" };
        write_if_changed(&folder.join(name), &[pragma, content].concat())
    })
}

/// The generated functions have no prototypes, and users could not change that.
const NO_WARNINGS: &[u8] = b"#pragma clang diagnostic ignored \"-Wmissing-prototypes\"\n";

/// Returns the bindings for Go: the files of the packages below `package`, with their paths in it.
pub fn go(world: World, package: &str) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let options = wit_bindgen_go::Opts {
        // The generator would run gofmt.
        format: wit_bindgen_go::Format::False,
        pkg_name: Some(package.to_owned()),
        // It would print an empty line where there are no warnings.
        quiet: true,
        ..wit_bindgen_go::Opts::default()
    };
    let files = generate(world, &mut *options.build())?;
    Ok(files.iter().map(|(name, content)| (name.to_owned(), content.to_owned())).collect())
}

fn generate(world: World, generator: &mut dyn WorldGenerator) -> anyhow::Result<Files> {
    let (mut resolve, world) = contract::resolve(world)?;
    let mut files = Files::default();
    generator.generate(&mut resolve, world, &mut files)?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bindings_of_both_worlds_are_generated() {
        let folder = tempfile::tempdir().unwrap();
        for world in World::ALL {
            c(world, folder.path()).unwrap();
            let files = go(world, "example/bindings").unwrap();
            assert!(files.iter().any(|(name, _)| name == "exports/wit_exports/wit_exports.go"), "{world:?}");
        }
        for file in ["plugin.h", "plugin_component_type.o", "authorizer.c"] {
            assert!(folder.path().join(file).exists(), "{file}");
        }
    }
}
