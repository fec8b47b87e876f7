//! What the boot loader chose.
use crate::{
    Region,
    tree::{self, Find as _, Tree},
};

/// Boot arguments and initial RAM disk, from `/chosen` (DT spec, 3.6; bindings, `chosen.txt`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Chosen<'a> {
    /// `bootargs`.
    pub bootargs: Option<&'a str>,
    /// `linux,initrd-start` to `linux,initrd-end`.
    pub initrd: Option<Region>,
}

pub(crate) fn read<'a>(tree: &Tree<'a>) -> Chosen<'a> {
    let Some(node) = tree.top("chosen") else { return Chosen::default() };
    let initrd = || {
        let start = tree::number(&node, "linux,initrd-start")?;
        let end = tree::number(&node, "linux,initrd-end")?;
        Region::new(start, end.checked_sub(start)?).filter(|region| region.size != 0)
    };
    Chosen { bootargs: tree::string(&node, "bootargs"), initrd: initrd() }
}
