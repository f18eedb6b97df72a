//! Seal keys and the manifest that was read.

use heirloom_hardware::bound::Bound;
use heirloom_hardware::gramine::Gramine;
use heirloom_keeper::port::{Platform, Sealing};
use heirloom_model::digest::Nonce;
use heirloom_testkit::tee::fuse::Mounted;
use heirloom_testkit::tee::gramine_files::GramineFiles;

const KEY_ID: Nonce = Nonce::new([9; 32]);

#[test]
fn the_same_code_has_other_keys_with_another_manifest() {
    let Some(files) = Mounted::new(GramineFiles::new()) else { return };
    let bare = || Box::new(Gramine::open(files.root()).unwrap());
    let bound = |bytes: &[u8]| Bound::to(bare(), bytes);
    let recipe = bound(b"one").seal_recipe(KEY_ID).unwrap();
    let key = |platform: &dyn Platform| platform.seal_key(&recipe).unwrap();
    let one = key(&bound(b"one"));
    assert!(one.same_as(&key(&bound(b"one"))), "after a restart");
    assert!(!one.same_as(&key(&bound(b"two"))));
    assert!(!one.same_as(&key(&*bare())));
    assert_eq!(bound(b"one").identity(), bare().identity());
    assert_eq!(bound(b"one").sealing(), Ok(Sealing::CurrentOnly));
}
