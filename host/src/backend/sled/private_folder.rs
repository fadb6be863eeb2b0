//! The folder belongs to the user of the server, and only this user can enter it: rows have addresses and names of
//! peers, and who can write to the files can change what a server does.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use tracing::warn;

/// Permission bits of the folder: only its user.
const PRIVATE: u32 = 0o700;
const OTHERS: u32 = 0o077;

/// Creates the folder if it does not exist, and takes the permissions of others away.
pub fn prepare(path: &Path) -> anyhow::Result<()> {
    let folder = path.display();
    DirBuilder::new().recursive(true).mode(PRIVATE).create(path).with_context(|| {
        format!("cannot create the folder {folder} for the store; check that its parent folder is writable")
    })?;
    let metadata = fs::metadata(path).with_context(|| format!("cannot read the folder {folder} of the store"))?;
    let user = rustix::process::geteuid().as_raw();
    check_owner(path, metadata.uid(), user)?;
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS == 0 {
        return Ok(());
    }
    match fs::set_permissions(path, Permissions::from_mode(PRIVATE)) {
        Ok(()) => {
            warn!("other users could access the store in {folder} (mode {mode:04o}); its mode is now {PRIVATE:04o}");
        }
        Err(error) => warn!(
            "other users may be able to access the store in {folder}: its mode is {mode:04o}, and {PRIVATE:04o} cannot \
             be set: {error}"
        ),
    }
    Ok(())
}

/// Rejects a folder of another user, who could replace the files at any time. Root may run a server on the folder of
/// another user, such as on a volume of a container.
fn check_owner(path: &Path, owner: u32, user: u32) -> anyhow::Result<()> {
    if owner == user || user == 0 {
        return Ok(());
    }
    let path = path.display();
    bail!(
        "the folder {path} of the store belongs to user {owner}, expected user {user}, who runs the server; change its \
         owner, or choose another folder"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_folder_is_created_for_its_user_only_and_an_existing_one_is_closed_for_others() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        prepare(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        for wider in [0o755, 0o770, 0o701, 0o2777] {
            fs::set_permissions(&path, Permissions::from_mode(wider)).unwrap();
            prepare(&path).unwrap();
            assert_eq!(mode(&path) & 0o777, 0o700, "{wider:o}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o500)).unwrap();
        prepare(&path).unwrap();
        assert_eq!(mode(&path), 0o500, "no permission is added");
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn the_folder_of_another_user_is_rejected() {
        let check = |owner, user| check_owner(Path::new("data"), owner, user).map_err(|error| error.to_string());
        assert_eq!(check(1000, 1000), Ok(()));
        assert_eq!(check(1000, 0), Ok(()));
        for owner in [1001, 0] {
            let expected = format!(
                "the folder data of the store belongs to user {owner}, expected user 1000, who runs the server; change \
                 its owner, or choose another folder"
            );
            assert_eq!(check(owner, 1000), Err(expected));
        }
    }
}
