//! Other nodes: who may be one, what is said, and how it gets there.

pub mod admission;
pub mod link;
pub mod listener;
pub(crate) mod living;
pub mod message;
