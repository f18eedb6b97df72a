//! The emulated machine as a platform: in this process, and for real processes.

#[cfg(test)]
mod in_process;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod shared;
