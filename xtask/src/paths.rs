//! Where things are.

use anyhow::{Context, Result};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// The workspace's root directory.
pub fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Where cargo keeps what it compiles.
pub fn cargo_target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR").or_else(|| env::var_os("CARGO_BUILD_TARGET_DIR")) {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Where cargo puts the finished programs of a board: each board has a program called `hv`.
pub fn board_target(board: &str) -> PathBuf {
    cargo_target().join("boards").join(board)
}

/// Where a board's images and bundle are read from: the documented place, or this process's
/// [snapshot](crate::artefacts) of it.
pub fn images(board: &str) -> PathBuf {
    crate::artefacts::snapshot().unwrap_or_else(published).join(board)
}

/// The documented place of all boards' images.
pub fn published() -> PathBuf {
    root().join("target/images")
}

/// Where unpacked Debian packages are, each in a directory of its name.
pub fn debian() -> PathBuf {
    root().join("target/debian")
}

/// Where the logs of builds and installations are.
pub fn logs() -> PathBuf {
    root().join("target/logs")
}

/// Where the consoles of failed scenarios are.
pub fn test_logs() -> PathBuf {
    root().join("target/test-logs")
}

/// `path` as people like to read it: relative to the workspace.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Writes a file so that a reader sees the old or the new content, never half of one.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    let sentence = || format!("cannot write {}", shown(path));
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(sentence)?;
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    fs::write(&partial, content).with_context(sentence)?;
    fs::rename(&partial, path).with_context(sentence)
}

/// Reads a file, with a sentence if it cannot.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", shown(path)))
}
