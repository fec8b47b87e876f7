//! The Margay lightweight kernel as a library: native, primary (scheduler VM) and secondary from one source.
#![no_std]
