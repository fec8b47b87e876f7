//! Memory: where everything is, which physical memory is free, the translation tables, the heap, stacks.

#[cfg(target_os = "none")]
mod failing;
#[cfg(target_os = "none")]
mod heap;
mod layout;
#[cfg(target_os = "none")]
mod physical;
pub mod regions;
#[cfg(target_os = "none")]
mod stack;
#[cfg(target_os = "none")]
mod tables;

#[cfg(programs)]
pub(crate) use failing::fail;
pub use layout::{DEVICE_TREE, DEVICES, IMAGE, LINEAR, Phys, STACKS};
#[cfg(target_os = "none")]
pub(crate) use physical::init;
#[cfg(target_os = "none")]
pub use physical::{Block, allocate, free_bytes};
#[cfg(programs)]
pub(crate) use physical::{give, has_room_for_kernel, take_for_program};
#[cfg(target_os = "none")]
pub use stack::Stack;
#[cfg(programs)]
pub(crate) use tables::empty_table;
#[cfg(target_os = "none")]
pub(crate) use tables::{image_phys, leave_identity_map, root};
#[cfg(target_os = "none")]
pub use tables::{map_code, map_device, map_shared};
