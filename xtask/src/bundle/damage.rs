//! Damaging a bundle on purpose, for scenarios that check what the hypervisor says about it.

use super::cpio::{self, Entry, Form};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// One thing that is wrong with a bundle.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Damage {
    /// `{ drop = "guest-hpc.img" }`: the file is missing.
    Drop(String),
    /// `{ duplicate = "guest-hpc.img" }`: the file is in twice.
    Duplicate(String),
    /// `{ cut = { file = "manifest.dtb", keep = 40 } }`: only the first bytes of a file; negative counts from
    /// its end.
    Cut { file: String, keep: i64 },
    /// `{ patch = { file = "guest-hpc.img", at = 56, text = "nope" } }`: other bytes in a file, or (no
    /// `file`) in the archive.
    Patch { file: Option<String>, at: usize, text: String },
    /// `{ truncate = 100 }`: only the first bytes of the archive; negative counts from its end.
    Truncate(i64),
}

/// The archive of `entries` with everything in `damage` done to it: to the files first, then to the whole.
pub fn apply(mut entries: Vec<Entry>, form: Form, damage: &[Damage]) -> Result<Vec<u8>> {
    for damage in damage {
        match damage {
            Damage::Drop(name) => {
                let at = find(&entries, name)?;
                entries.remove(at);
            }
            Damage::Duplicate(name) => {
                let entry = entries[find(&entries, name)?].clone();
                entries.push(entry);
            }
            Damage::Cut { file, keep } => {
                let at = find(&entries, file)?;
                cut(&mut entries[at].content, *keep);
            }
            Damage::Patch { file: Some(file), at, text } => {
                let entry = find(&entries, file)?;
                patch(&mut entries[entry].content, *at, text)?;
            }
            Damage::Patch { file: None, .. } | Damage::Truncate(_) => {}
        }
    }
    let mut archive = cpio::archive(&entries, form)?;
    for damage in damage {
        match damage {
            Damage::Patch { file: None, at, text } => patch(&mut archive, *at, text)?,
            Damage::Truncate(keep) => cut(&mut archive, *keep),
            _ => {}
        }
    }
    Ok(archive)
}

fn find(entries: &[Entry], name: &str) -> Result<usize> {
    entries
        .iter()
        .position(|entry| entry.name == name)
        .with_context(|| format!("the bundle has no file {name} to damage"))
}

fn cut(bytes: &mut Vec<u8>, keep: i64) {
    let keep =
        if keep < 0 { bytes.len().saturating_sub(keep.unsigned_abs() as usize) } else { keep as usize };
    bytes.truncate(keep);
}

fn patch(bytes: &mut [u8], at: usize, text: &str) -> Result<()> {
    let end = at.saturating_add(text.len());
    ensure!(end <= bytes.len(), "a patch at {at} lies behind the end");
    bytes[at..end].copy_from_slice(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damaged(damage: &str) -> Result<Vec<u8>> {
        #[derive(Deserialize)]
        struct List {
            damage: Vec<Damage>,
        }
        let list: List = toml::from_str(&format!("damage = [{damage}]")).unwrap();
        apply(
            vec![Entry::new("a", b"AAAA".to_vec()), Entry::new("b", b"BBBB".to_vec())],
            Form::Newc,
            &list.damage,
        )
    }

    fn count(archive: &[u8], part: &[u8]) -> usize {
        archive.windows(part.len()).filter(|window| *window == part).count()
    }

    #[test]
    fn each_kind_of_damage_does_what_it_says() {
        let whole = damaged("").unwrap();
        assert_eq!(damaged("{ truncate = 100 }").unwrap(), whole[..100]);
        assert_eq!(damaged("{ truncate = -1 }").unwrap(), whole[..whole.len() - 1]);
        assert_eq!(count(&damaged("{ drop = 'a' }").unwrap(), b"AAAA"), 0);
        assert_eq!(count(&damaged("{ duplicate = 'a' }").unwrap(), b"AAAA"), 2);
        assert_eq!(count(&damaged("{ cut = { file = 'a', keep = -1 } }").unwrap(), b"AAAA"), 0);
        assert_eq!(count(&damaged("{ patch = { file = 'b', at = 1, text = 'xx' } }").unwrap(), b"BxxB"), 1);
        assert!(damaged("{ patch = { at = 0, text = 'XX' } }").unwrap().starts_with(b"XX0701"));
        assert!(damaged("{ drop = 'c' }").is_err());
    }
}
