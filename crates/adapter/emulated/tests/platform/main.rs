//! The emulated machine as a platform: in this process, and for real processes.

mod in_process;
mod processes;
mod shared;
