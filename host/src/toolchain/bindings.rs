//! Generates the bindings of the contract for languages whose compilers know nothing of components.

use std::path::Path;

use wit_bindgen_core::{Files, WorldGenerator};

use super::{contract, write_if_changed};
use crate::world::World;

/// Writes the bindings for C: a header, its implementation, and an object file with the metadata of the world.
pub fn c(world: World, folder: &Path) -> anyhow::Result<()> {
    generate(world, &mut *wit_bindgen_c::Opts::default().build(), folder)
}

/// Writes the bindings for Go.
pub fn go(world: World, folder: &Path) -> anyhow::Result<()> {
    generate(world, &mut *wit_bindgen_go::Opts::default().build(), folder)
}

fn generate(world: World, generator: &mut dyn WorldGenerator, folder: &Path) -> anyhow::Result<()> {
    let (mut resolve, world) = contract::resolve(world)?;
    let mut files = Files::default();
    generator.generate(&mut resolve, world, &mut files)?;
    files.iter().try_for_each(|(name, content)| write_if_changed(&folder.join(name), content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bindings_of_both_worlds_are_generated() {
        let folder = tempfile::tempdir().unwrap();
        for world in World::ALL {
            c(world, &folder.path().join("c")).unwrap();
            go(world, &folder.path().join("go")).unwrap();
        }
        for file in ["c/plugin.h", "c/plugin_component_type.o", "c/authorizer.c", "go/go.mod"] {
            assert!(folder.path().join(file).exists(), "{file}");
        }
    }
}
