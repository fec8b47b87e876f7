//! Images and bundles, when several `cargo xtask` run in one checkout.
//!
//! Whoever writes below `target/images` holds a lock; another waits and says so. Machines are booted from a
//! snapshot: hard links of the images, made under the lock. Files are replaced by renaming
//! ([`paths::write`]), so a build that follows does not change what a running test or session boots, and
//! nobody waits for a machine to end.

use crate::paths;
use anyhow::{Context, Result};
use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// The right to write images and bundles; dropping it releases it.
pub struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

static SNAPSHOT: OnceLock<PathBuf> = OnceLock::new();

/// Takes the lock of this checkout's artefacts; waits, with a message, while another `cargo xtask` holds it.
pub fn lock() -> Result<Lock> {
    lock_file(&lock_path(), || {
        eprintln!(
            "waiting for another cargo xtask that builds in this checkout (it holds {})",
            paths::shown(&lock_path())
        );
    })
}

fn lock_path() -> PathBuf {
    paths::root().join("target/images.lock")
}

fn lock_file(path: &Path, waiting: impl FnOnce()) -> Result<Lock> {
    let sentence = || format!("cannot lock {}", paths::shown(path));
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(sentence)?;
    }
    let file = File::options().create(true).append(true).open(path).with_context(sentence)?;
    match file.try_lock() {
        Ok(()) => return Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => waiting(),
        Err(TryLockError::Error(error)) => return Err(error).with_context(sentence),
    }
    file.lock().with_context(sentence)?;
    Ok(Lock(file))
}

/// This process's snapshot of the images, once it has one.
pub fn snapshot() -> Option<PathBuf> {
    SNAPSHOT.get().cloned()
}

/// Makes a snapshot of these boards' images and releases the lock: from here on [`paths::images`] is the
/// snapshot.
pub fn freeze(lock: Lock, boards: &[&str]) -> Result<()> {
    let all = paths::root().join("target/running");
    remove_abandoned(&all);
    let own = all.join(std::process::id().to_string());
    for board in boards {
        link_all(&paths::published().join(board), &own.join(board))?;
    }
    drop(lock);
    let _ = SNAPSHOT.set(own);
    Ok(())
}

/// Removes this process's snapshot, if it has one.
pub fn remove_snapshot() {
    if let Some(dir) = SNAPSHOT.get() {
        let _ = fs::remove_dir_all(dir);
    }
}

/// Ends this process with a status, and leaves no snapshot behind.
pub fn exit(status: i32) -> ! {
    remove_snapshot();
    std::process::exit(status)
}

/// Removes the snapshots of processes that were killed. Without `/proc`, nothing is known of them, and they
/// stay.
fn remove_abandoned(all: &Path) {
    if !Path::new("/proc/self").exists() {
        return;
    }
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        if !Path::new("/proc").join(entry.file_name()).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn link_all(from: &Path, to: &Path) -> Result<()> {
    let sentence = || format!("cannot make a snapshot of {}", paths::shown(from));
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).with_context(sentence)?;
    let Ok(entries) = fs::read_dir(from) else { return Ok(()) };
    for entry in entries {
        let entry = entry.with_context(sentence)?;
        let name = entry.file_name();
        if entry.file_type().with_context(sentence)?.is_file()
            && !name.to_string_lossy().ends_with(".partial")
        {
            let target = to.join(&name);
            fs::hard_link(entry.path(), &target)
                .or_else(|_| fs::copy(entry.path(), &target).map(drop))
                .with_context(sentence)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, thread, time::Duration};

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn second_builder_says_that_it_waits_and_then_goes_on() {
        let dir = scratch("lock");
        let path = dir.join("images.lock");
        let first = lock_file(&path, || panic!("nobody holds it")).unwrap();
        let (sender, events) = mpsc::channel();
        let second = {
            let path = path.clone();
            thread::spawn(move || {
                let _second = lock_file(&path, || sender.send("waits").unwrap()).unwrap();
                sender.send("has it").unwrap();
            })
        };
        assert_eq!(events.recv_timeout(Duration::from_secs(20)).unwrap(), "waits");
        assert!(events.recv_timeout(Duration::from_millis(100)).is_err(), "both hold it");
        drop(first);
        assert_eq!(events.recv_timeout(Duration::from_secs(20)).unwrap(), "has it");
        second.join().unwrap();
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn snapshot_keeps_images_that_a_later_build_replaces() {
        let dir = scratch("snapshot");
        let (published, running) = (dir.join("images/b"), dir.join("running/b"));
        paths::write(&published.join("hv.img"), b"old").unwrap();
        link_all(&published, &running).unwrap();
        paths::write(&published.join("hv.img"), b"new").unwrap();
        assert_eq!(fs::read(running.join("hv.img")).unwrap(), b"old");
        fs::remove_dir_all(dir).unwrap();
    }
}
