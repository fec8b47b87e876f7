//! The boot firmware that is not Margay's: from Debian's packages, or from a directory of the user's.

use super::{File, Model, Platform, pine};
use crate::{paths, setup::debian};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// What is on a card besides Margay.
#[derive(Clone, Debug, Default)]
pub struct Firmware {
    /// In the boot partition.
    pub files: Vec<File>,
    /// Outside of it, at [`pine::SPL_AT`].
    pub loader: Option<Vec<u8>>,
}

impl Firmware {
    /// The firmware of `model`, from `dir` or from Debian. Where a Raspberry Pi's is not to be had, it is
    /// left out, and a sentence says what to copy.
    pub fn find(model: &Model, dir: Option<&Path>) -> Result<Self> {
        match model.platform {
            Platform::Pine { uboot } => {
                let from = Source::find(dir, "u-boot-sunxi", uboot)?;
                let spl = from.read("sunxi-spl.bin")?;
                let uboot = from.read("u-boot-sunxi-with-spl.fit.itb")?;
                let loader = pine::loader(&spl.content, &uboot.content)?;
                Ok(Self { files: from.licence()?, loader: Some(loader) })
            }
            Platform::Raspberry { gpu, uboot } => {
                let mut files =
                    take(dir, "raspi-firmware", "usr/lib/raspi-firmware", gpu).unwrap_or_else(|error| {
                        eprintln!(
                            "note: the card does not boot until you copy {} to it: {error:#}",
                            gpu.join(", ")
                        );
                        Vec::new()
                    });
                files.extend(take(dir, "u-boot-rpi", uboot, &["u-boot.bin"]).unwrap_or_else(|error| {
                    eprintln!("note: there is no U-Boot on the card, and it boots without: {error:#}");
                    Vec::new()
                }));
                Ok(Self { files, loader: None })
            }
        }
    }
}

/// The files `names` and their licence.
fn take(dir: Option<&Path>, package: &'static str, place: &str, names: &[&str]) -> Result<Vec<File>> {
    let from = Source::find(dir, package, place)?;
    let mut files = names.iter().map(|name| from.read(name)).collect::<Result<Vec<_>>>()?;
    files.extend(from.licence()?);
    Ok(files)
}

/// Where firmware comes from.
struct Source {
    dir: PathBuf,
    /// The licence that a package comes with, and what it is called on the card.
    licence: Option<(PathBuf, String)>,
}

impl Source {
    /// The user's `dir`, or `place` in Debian's `package`.
    fn find(dir: Option<&Path>, package: &'static str, place: &str) -> Result<Self> {
        if let Some(dir) = dir {
            return Ok(Self { dir: dir.to_owned(), licence: None });
        }
        let root = debian::unpacked(package)?;
        let licence = root.join("usr/share/doc").join(package).join("copyright");
        Ok(Self { dir: root.join(place), licence: Some((licence, format!("LICENCE.{package}"))) })
    }

    fn read(&self, name: &str) -> Result<File> {
        let path = self.dir.join(name);
        let content = paths::read(&path)?;
        File::new(name, content).with_context(|| format!("{} is of no use", paths::shown(&path)))
    }

    fn licence(&self) -> Result<Vec<File>> {
        let Some((path, name)) = &self.licence else { return Ok(Vec::new()) };
        Ok(vec![File::new(name, paths::read(path)?)?])
    }
}
