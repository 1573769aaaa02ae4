//! Whose files are those on a node's disk, where its program was somebody else than who asked for the run.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

use super::privilege::{User, act_as};

/// Gives everything in `folder` that is not `user`'s to `user`, so that whoever asked for the run can read and delete what is
/// left of it. Links are given, not followed. To be called when nothing runs that could change the tree meanwhile.
///
/// # Errors
/// The first that could not be given; the others have been.
pub(super) fn hand_over(folder: &Path, user: User) -> io::Result<()> {
    act_as(User { uid: 0, gid: 0 });
    let mut outcome = Ok(());
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                outcome = outcome.and(Err(error));
                continue;
            }
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let given = entry.metadata().and_then(|found| {
                if found.is_dir() {
                    open.push(path.clone());
                }
                let is_his = (found.uid(), found.gid()) == (user.uid, user.gid);
                if is_his { Ok(()) } else { lchown(&path, Some(user.uid), Some(user.gid)) }
            });
            outcome = outcome.and(given);
        }
    }
    act_as(user);
    outcome
}
