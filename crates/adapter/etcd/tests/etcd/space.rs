//! A cluster whose quota is used up.

use heirloom_model::counter::LogIndex;
use heirloom_registry::port::{AppendError, LogStore};

use crate::fixture::{World, read_all};

#[test]
fn a_cluster_without_space_says_so_and_goes_on_to_be_read() {
    let Some(world) = World::start_with(1, &["--quota-backend-bytes=8388608"]) else { return };
    let log = world.log();
    let mut written = Vec::new();
    // Statements of both kinds: in parts, and not.
    let refused = (0_u8..40).find_map(|number| {
        let envelope = vec![number; if number % 2 == 0 { 1_000_000 } else { 40_000 }];
        let place = LogIndex(u64::from(number));
        match log.append(place, &envelope) {
            Ok(_) => {
                written.push(envelope);
                None
            }
            Err(error) => Some(error),
        }
    });
    assert!(matches!(refused, Some(AppendError::Full { .. })), "{refused:?}");
    let found: Vec<_> = read_all(&log).into_iter().map(|entry| entry.envelope).collect();
    assert!(found == written, "{} entries of {}", found.len(), written.len());
    let place = LogIndex(u64::try_from(written.len()).unwrap());
    let small = log.append(place, b"small");
    assert!(matches!(small, Err(AppendError::Full { .. })), "{small:?}");
    assert_eq!(read_all(&log).len(), written.len());
}
