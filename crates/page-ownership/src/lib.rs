//! Which VM owns which page of memory, and who has been given it for a time.
//!
//! [`Ownership`] holds one [`PageState`] for each page of the machine's memory, and the open *memory
//! transactions* of FF-A (DEN0077A, chapter 10; DEN0140): donations, loans and shares, from the sender's
//! request until the memory is back or gone. A transition of one or two pages is one method, which checks,
//! changes the states, and brings the stage-2 tables after them through [`Tables`]. The transitions of
//! transactions, which may be long, have a method that checks and begins (`start_…`), and then
//! [`Ownership::step`] until it is [`Step::Done`]: a bounded piece each time, with anything else in between.
//! One that ends with an error has changed nothing. What must always hold, between steps too:
//!
//! * A page is in the tables of its owner, or of those that its transaction names and that have retrieved it,
//!   or both if it is shared; in nobody else's.
//! * Two VMs can write a page only if its owner has shared it for writing, or lent it to both.
//! * The hypervisor's pages are in no tables.
//! * A page changes owner only by donation, or by the hypervisor's [`Ownership::seize`], and is then zeroed
//!   if the one who gives it asked for that.
//!
//! The caller holds one lock over a method; VMs go on meanwhile. It releases the lock to zero memory
//! ([`Step::Zero`]). The order in which tables change is therefore part of the contract: access is taken
//! away, on all cores, before memory is zeroed or anybody else gets it.
//!
//! ```
//! use hv_abi::{ffa::memory::Kind, ids::{Ipa, Pa, VmId}};
//! use page_ownership::{Grant, Offer, Ownership, PageState, Request, Step, sim::SimTables};
//!
//! let (one, two) = (VmId(1), VmId(2));
//! let mut tables = SimTables::new(&[one, two]);
//! let mut pages = Ownership::new([(0x4000_0000, 0x10_0000)].into_iter(), [one, two].into_iter());
//! tables.give(&mut pages, one, Ipa(0x4000_0000), Pa(0x4000_0000), 16);
//!
//! // VM 1 lends a page to VM 2, which may write it.
//! let offer = Offer { kind: Kind::Lend, tag: 7, zero: false, pages: 1, borrowers: &[(two, Grant { write: true, execute: false })] };
//! let handle = pages.begin(one, &offer)?;
//! pages.start_add(one, handle, [(Ipa(0x4000_3000), 1)].into_iter(), true)?;
//! while pages.step(one, handle, &mut tables)? != Step::Done {}
//! assert!(tables.walk(one, Ipa(0x4000_3000)).is_none());
//!
//! let request = Request { tag: 7, write: true, ..Request::default() };
//! let mut place = None;
//! pages.retrieve(two, handle, &request, &mut tables, &mut |got, _| place = got.ipa)?;
//! assert!(tables.walk(two, place.unwrap()).is_some());
//! assert_eq!(pages.state(Pa(0x4000_3000)).owner(), Some(one));
//!
//! pages.relinquish(two, handle, false, &mut tables)?;
//! pages.reclaim(one, handle, false, &mut tables)?;
//! assert_eq!(pages.state(Pa(0x4000_3000)), PageState::Owned(one));
//! # Ok::<(), hv_abi::ffa::Error>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "sim"))]
extern crate std;

mod ownership;
mod queries;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod state;
mod step;
mod transaction;

pub use ownership::{Ownership, Tables};
pub use state::PageState;
pub use step::{Step, Wipe};
pub use transaction::{Given, Grant, Offer, Request, Retrieved};

/// The most pages in one transaction: 256 MiB.
pub const MAX_PAGES: u64 = 65_536;
/// The most pages in a transaction that zeroes them: 64 MiB.
pub const MAX_ZEROED_PAGES: u64 = 16_384;
/// The most receivers of one transaction.
pub const MAX_BORROWERS: usize = 8;
/// Maximum number of open transactions of a VM.
pub const MAX_TRANSACTIONS: usize = 16;
/// Maximum number of memory ranges in one fragment of a descriptor: a page full.
pub const MAX_FRAGMENT: usize = 256;
/// The most pages that one step maps or unmaps: what an entry of a level-2 table covers, so that blocks stay
/// whole.
pub const STEP_PAGES: u64 = 512;
/// The most pages that one step zeroes.
pub const STEP_ZEROED_PAGES: u64 = 16;
/// Maximum number of stage-2 entries that one step reads to translate the sender's memory.
pub const STEP_TRANSLATIONS: usize = 24;
/// Maximum number of contiguous ranges in all open transactions of a VM.
pub const MAX_RANGES: usize = 512;
