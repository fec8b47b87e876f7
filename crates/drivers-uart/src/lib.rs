//! Serial consoles of ARM boards behind one trait.
#![no_std]
