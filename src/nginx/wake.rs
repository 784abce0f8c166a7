//! Waking workers: one descriptor per process slot, watched by the slot's worker.
//!
//! The hooks of the process's life; [`crate::nginx::module`] calls them.

use crate::nginx::config::MainConf;

/// A hook failed, and has said why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed;

/// In the master, for each accepted configuration in which the module is used.
pub(crate) fn init_master(_conf: &MainConf) -> Result<(), Failed> {
    Ok(())
}

/// In each worker, before its first request.
pub(crate) fn init_worker(_conf: &MainConf) -> Result<(), Failed> {
    Ok(())
}

/// In each worker that ends in an orderly way.
pub(crate) fn exit_worker(_conf: &MainConf) {}
