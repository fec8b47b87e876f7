//! Memory transactions. The caller has made its mailbox with [`super::rxtx_map`], and passes the buffers.

use super::{ffa_result, hvc, rx_release};
use crate::{
    Regs,
    ffa::{
        self, Error, Version,
        memory::{self as m, Composite, Descriptor, Handle, Header, Kind, Range, Receiver, Relinquish},
    },
    ids::VmId,
};
use core::hint::black_box;

/// The buffers of a VM, and the version that it speaks.
#[derive(Debug)]
pub struct Buffers<'a> {
    /// What the hypervisor reads.
    pub tx: &'a mut [u8],
    /// What it writes.
    pub rx: &'a mut [u8],
    /// The form of descriptors.
    pub version: Version,
}

impl Buffers<'_> {
    /// Donates, lends or shares `ranges`, in as many fragments as it takes.
    ///
    /// # Errors
    /// What the hypervisor answers; `NO_MEMORY` if the receivers do not fit the buffer.
    pub fn send(
        &mut self,
        kind: Kind,
        header: &Header,
        receivers: &[Receiver],
        ranges: &[Range],
    ) -> Result<Handle, Error> {
        let composite =
            Composite { pages: ranges.iter().map(|range| range.pages).sum(), ranges: ranges.len() as u32 };
        let all = ranges.iter().copied();
        let written = m::write(self.tx, self.version, header, receivers, Some(composite), all.clone());
        let m::Written { total, mut fragment } = written.ok_or(Error::NoMemory)?;
        let function = match kind {
            Kind::Donate => ffa::MEM_DONATE,
            Kind::Lend => ffa::MEM_LEND,
            Kind::Share => ffa::MEM_SHARE,
        };
        black_box(&mut *self.tx);
        let mut out = hvc(Regs([function.into(), total as u64, fragment as u64, 0, 0, 0, 0, 0]));
        let head = m::ranges_offset(self.version, receivers.len());
        while out.function() == ffa::MEM_FRAG_RX {
            let sent = (fragment - head) / m::RANGE_SIZE;
            let length = m::write_ranges(self.tx, all.clone().skip(sent)) * m::RANGE_SIZE;
            fragment += length;
            black_box(&mut *self.tx);
            let call = [ffa::MEM_FRAG_TX.into(), out.0[1], out.0[2], length as u64, 0, 0, 0, 0];
            out = hvc(Regs(call));
        }
        let out = ffa_result(out)?;
        Ok(Handle::from_words(out.0[2], out.0[3]))
    }

    /// Retrieves the memory of a transaction: at `place`, or where the hypervisor finds room. Every range of
    /// it is given to `each`.
    ///
    /// # Errors
    /// What the hypervisor answers.
    pub fn retrieve(
        &mut self,
        header: &Header,
        receivers: &[Receiver],
        place: Option<Range>,
        mut each: impl FnMut(Range),
    ) -> Result<(), Error> {
        let composite = place.map(|range| Composite { pages: range.pages, ranges: 1 });
        let written = m::write(self.tx, self.version, header, receivers, composite, place.into_iter());
        let length = written.ok_or(Error::NoMemory)?.total as u64;
        black_box(&mut *self.tx);
        let out = hvc(Regs([ffa::MEM_RETRIEVE_REQ.into(), length, length, 0, 0, 0, 0, 0]));
        if out.function() != ffa::MEM_RETRIEVE_RESP {
            return ffa_result(out).and(Err(Error::NotSupported));
        }
        let (total, mut got) = (out.0[1] as usize, out.0[2] as usize);
        let rx = black_box(&mut *self.rx);
        let response = Descriptor::parse(rx.get(..got).unwrap_or_default(), total, self.version);
        let handle = response.map(|response| {
            response.ranges().for_each(&mut each);
            response.header().handle
        });
        rx_release()?;
        let (low, high) = handle?.words();
        while got < total {
            let call = [ffa::MEM_FRAG_RX.into(), low, high, got as u64, 0, 0, 0, 0];
            let out = ffa_result_of(hvc(Regs(call)), ffa::MEM_FRAG_TX)?;
            let length = out.0[3] as usize;
            let rx = black_box(&mut *self.rx);
            m::ranges(rx.get(..length).unwrap_or_default())?.for_each(&mut each);
            rx_release()?;
            got += length;
        }
        Ok(())
    }

    /// Gives back what has been retrieved, zeroed if `zero`.
    ///
    /// # Errors
    /// What the hypervisor answers.
    pub fn relinquish(&mut self, vm: VmId, handle: Handle, zero: bool) -> Result<(), Error> {
        let flags = if zero { m::FLAG_ZERO } else { 0 };
        self.tx[..Relinquish::SIZE].copy_from_slice(&Relinquish { handle, flags, vm }.to_bytes());
        black_box(&mut *self.tx);
        ffa_result(hvc(Regs::func(ffa::MEM_RELINQUISH))).map(drop)
    }
}

fn ffa_result_of(out: Regs, expected: u32) -> Result<Regs, Error> {
    if out.function() == expected { Ok(out) } else { ffa_result(out).and(Err(Error::NotSupported)) }
}

/// `FFA_MEM_RECLAIM`: takes memory back that nobody has any more.
///
/// # Errors
/// What the hypervisor answers.
pub fn reclaim(handle: Handle, zero: bool) -> Result<(), Error> {
    let (low, high) = handle.words();
    let call = [ffa::MEM_RECLAIM.into(), low, high, zero.into(), 0, 0, 0, 0];
    ffa_result(hvc(Regs(call))).map(drop)
}
