//! What a process that knows secrets does to itself. In a program of its own: there is no way back.

use nix::sys::prctl::get_dumpable;
use nix::sys::resource::{Resource, getrlimit};

/// Root may read everything, so whether others may is asked of the process itself.
#[test]
fn a_secluded_process_cannot_be_dumped_or_traced() {
    assert!(get_dumpable().unwrap());
    heirloom_platform::seclusion::seclude().unwrap();
    assert!(!get_dumpable().unwrap());
    assert_eq!(getrlimit(Resource::RLIMIT_CORE).unwrap(), (0, 0));
}
