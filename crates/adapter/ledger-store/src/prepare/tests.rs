use std::time::Instant;

use super::*;
use crate::environment::Access;
use crate::verify::verify;
use crate::world::{World, fill};

#[test]
fn the_same_arguments_make_the_same_valid_ledger() {
    let (one, two) = (World::new(2, 300), World::new(3, 300));
    assert_eq!(one.tip, two.tip, "whatever the schema is");
    assert_eq!(one.tip.height, Height(300));
    for world in [one, two] {
        let original = world.data.join("original");
        let head = verify(&Database::open_at(&original, Access::Read).unwrap()).unwrap();
        assert_eq!(head.totals.blocks, 300);
        let paid = 300 / PAYMENT_EVERY;
        assert_eq!(head.totals.outputs, 1 + 2 * paid);
        assert_eq!(head.totals.fees, Amount(2 * paid));
        assert_eq!(head.totals.unspent.plus(head.totals.fees), Some(Amount(1_000_000)));
    }
}

#[expect(clippy::print_stdout, reason = "the numbers are what people look for")]
#[test]
fn one_hundred_thousand_blocks_are_prepared_in_little_time() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let began = Instant::now();
    fill(&data, 2, 100_000).unwrap();
    let took = began.elapsed();
    let database = Database::open_at(&data.join("original"), Access::Read).unwrap();
    let began = Instant::now();
    verify(&database).unwrap();
    // Generous: other tests run beside this one, on machines of all kinds.
    assert!(took.as_secs() < 120, "{took:?}");
    let sizes = std::fs::metadata(data.join("original/data.mdb")).unwrap().len();
    println!("prepared in {took:?}, verified in {:?}, {sizes} bytes", began.elapsed());
}
