use super::*;
use crate::fake::{DOMAIN, shared_vector};
use heirloom_model::digest::parse_hex;
use proptest::prelude::*;

/// A keyring of these secrets, in batches of `size`, with its checksum.
fn keyring(secrets: &[[u8; 32]], size: usize) -> (Keyring, Checksum) {
    let mut ring = Keyring::new(DOMAIN);
    let mut checksum = checksum_before_first(&DOMAIN);
    let mut generation = Generation(0);
    for chunk in secrets.chunks(size) {
        let mut batch = Batch::with_capacity(generation, chunk.len());
        for secret in chunk {
            batch.push(secret, checksum);
            checksum = extend(&checksum, secret);
            generation = generation.next().unwrap();
        }
        ring.insert(batch).unwrap();
    }
    (ring, checksum)
}

fn secrets(count: u8) -> Vec<[u8; 32]> {
    (1..=count).map(|byte| [byte; 32]).collect()
}

fn hex32(value: &serde_json::Value) -> [u8; 32] {
    parse_hex("vector", value.as_str().unwrap()).unwrap()
}

#[test]
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn checksums_are_those_of_the_oasis_key_manager() {
    let Some(vectors) = shared_vector("oasis/checksums.json") else {
        println!("skipped: the shared vectors are not here");
        return;
    };
    let mut checksum = Checksum::new(hex32(&vectors["runtime_id"]));
    let chain = vectors["master_chain_secure_computed"].as_array().unwrap();
    assert!(!chain.is_empty());
    for link in chain {
        checksum = extend(&checksum, &hex32(&link["secret"]));
        assert_eq!(checksum, Checksum::new(hex32(&link["checksum"])));
    }
}

#[test]
fn a_replica_receives_from_the_newest_generation_down() {
    let (donor, checksum) = keyring(&secrets(10), 3);
    let top = Generation(9);
    let mut replica = Keyring::new(DOMAIN);
    let mut rounds = 0;
    while let Coverage::Missing(gap) = replica.coverage(top, checksum).unwrap() {
        let sent = donor.replicate(gap.newest, 4);
        replica.insert(gap.fill(&DOMAIN, &sent).unwrap()).unwrap();
        let expected = gap.after(&sent).map_or(Coverage::Complete, Coverage::Missing);
        assert_eq!(replica.coverage(top, checksum), Ok(expected), "what is asked early");
        rounds += 1;
        assert!(rounds <= 3);
    }
    assert_eq!(replica.count(), 10);
    assert_eq!(replica.climb(), Ok(Some((top, checksum))));
}

/// What is on disk already is used, and only the gap is asked for.
#[test]
fn an_interrupted_replication_is_resumed() {
    let (donor, checksum) = keyring(&secrets(10), 10);
    let mut replica = Keyring::new(DOMAIN);
    for generation in [0, 1, 5, 8, 9].map(Generation) {
        let single = donor.batch_of(generation).unwrap().single(generation).unwrap();
        replica.insert(single).unwrap();
    }
    replica.climb().unwrap();
    let coverage = replica.coverage(Generation(9), checksum).unwrap();
    let Coverage::Missing(gap) = coverage else { panic!("three gaps are left") };
    assert_eq!((gap.newest, gap.count), (Generation(7), 2));
    replica.insert(gap.fill(&DOMAIN, &donor.replicate(gap.newest, 2)).unwrap()).unwrap();
    let coverage = replica.coverage(Generation(9), checksum).unwrap();
    let Coverage::Missing(gap) = coverage else { panic!("one gap is left") };
    assert_eq!((gap.newest, gap.count), (Generation(4), 3));
    replica.insert(gap.fill(&DOMAIN, &donor.replicate(gap.newest, 3)).unwrap()).unwrap();
    assert_eq!(replica.coverage(Generation(9), checksum), Ok(Coverage::Complete));
}

/// Each answer differs from a good one in exactly one thing.
#[test]
fn an_answer_that_does_not_fit_is_refused_as_a_whole() {
    let (donor, checksum) = keyring(&secrets(4), 4);
    let newest = Generation(3);
    let gap = Gap { newest, count: 4, checksum };
    let good = || donor.replicate(newest, 4);
    assert!(gap.fill(&DOMAIN, &good()).is_ok());

    let refused = |sent: Vec<ReplicatedGeneration>| gap.fill(&DOMAIN, &sent).err();
    assert_eq!(refused(Vec::new()), Some(BadGenerations::Count { found: 0, asked: 4 }));
    let mut long = good();
    long.extend(donor.replicate(Generation(0), 1));
    assert_eq!(refused(long), Some(BadGenerations::Count { found: 5, asked: 4 }));

    let mut swapped = good();
    swapped.swap(1, 2);
    let (expected, found) = (Generation(2), Generation(1));
    assert_eq!(refused(swapped), Some(BadGenerations::Order { expected, found }));

    let mut other_secret = good();
    other_secret[2].secret = WireSecret::new(&[0xee; 32]);
    let generation = Generation(1);
    assert_eq!(refused(other_secret), Some(BadGenerations::Checksum { generation }));

    let mut other_previous = good();
    other_previous[2].previous = Checksum::new([0xee; 32]);
    assert_eq!(refused(other_previous), Some(BadGenerations::Checksum { generation }));

    let elsewhere = DomainId::new([0xee; 32]);
    assert_eq!(gap.fill(&elsewhere, &good()).err(), Some(BadGenerations::Beginning));
}

#[test]
fn a_keyring_of_another_history_is_not_one_chain() {
    let (mut ring, checksum) = keyring(&secrets(4), 2);
    let broken = |generation| NotOneChain { generation: Generation(generation) };
    assert_eq!(ring.coverage(Generation(3), Checksum::new([0; 32])), Err(broken(3)));
    assert_eq!(ring.coverage(Generation(3), checksum), Ok(Coverage::Complete));

    let mut ring = Keyring::new(DOMAIN);
    ring.insert(Batch::of_one(Generation(0), &[1; 32], checksum_before_first(&DOMAIN))).unwrap();
    ring.insert(Batch::of_one(Generation(1), &[2; 32], Checksum::new([7; 32]))).unwrap();
    assert_eq!(ring.climb(), Err(broken(1)));

    let mut ring = Keyring::new(DOMAIN);
    ring.insert(Batch::of_one(Generation(0), &[1; 32], Checksum::new([7; 32]))).unwrap();
    assert_eq!(ring.climb(), Err(broken(0)));
    let checksum = extend(&Checksum::new([7; 32]), &[1; 32]);
    assert_eq!(
        ring.coverage(Generation(0), checksum),
        Err(broken(0)),
        "the beginning is the domain"
    );
}

#[test]
fn a_generation_is_never_replaced_by_another_secret() {
    let (mut ring, checksum) = keyring(&secrets(3), 3);
    let previous = ring.previous(Generation(1)).unwrap();
    assert!(ring.insert(Batch::of_one(Generation(1), &[2; 32], previous)).is_ok(), "the same");
    assert!(ring.insert(Batch::of_one(Generation(1), &[9; 32], previous)).is_err());
    assert!(ring.insert(Batch::of_one(Generation(1), &[2; 32], checksum)).is_err());
    assert_eq!(ring.coverage(Generation(2), checksum), Ok(Coverage::Complete));
}

#[test]
fn ten_thousand_generations_fit_into_a_few_files() {
    let secrets: Vec<[u8; 32]> = (0..10_000_u32)
        .map(|number| {
            let mut secret = [0; 32];
            secret[..4].copy_from_slice(&number.to_be_bytes());
            secret
        })
        .collect();
    let (mut ring, checksum) = keyring(&secrets, REPLICATION_BATCH_MAX);
    assert_eq!(ring.coverage(Generation(9_999), checksum), Ok(Coverage::Complete));
    assert_eq!(ring.batches.len(), 5);
    let largest = ring.batches.values().map(|batch| batch.to_bytes().len()).max().unwrap();
    assert!(largest < heirloom_model::limit::SEALED_BYTES_MAX - 2_048);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_batch_survives_its_bytes(
        first in 0_u64..1_000,
        content in proptest::collection::vec(any::<([u8; 32], [u8; 32])>(), 1..20),
    ) {
        let mut batch = Batch::with_capacity(Generation(first), content.len());
        for (secret, previous) in &content {
            batch.push(secret, Checksum::new(*previous));
        }
        let (first, last) = (batch.first(), batch.last());
        let bytes = batch.to_bytes();
        let again = Batch::from_bytes(first, last, &bytes).unwrap();
        prop_assert_eq!(again.to_bytes(), bytes.clone());
        prop_assert!(Batch::from_bytes(first, last.next().unwrap(), &bytes).is_none());
        prop_assert!(Batch::from_bytes(first, last, &bytes[1..]).is_none());
    }

    #[test]
    fn any_other_secret_breaks_the_chain(
        list in proptest::collection::vec(any::<[u8; 32]>(), 1..12),
        at in any::<proptest::sample::Index>(),
        bit in 0_usize..256,
        size in 1_usize..5,
    ) {
        let (_, checksum) = keyring(&list, size);
        let mut other = list.clone();
        other[at.index(list.len())][bit / 8] ^= 1 << (bit % 8);
        let (mut changed, _) = keyring(&other, size);
        let top = Generation(u64::try_from(list.len()).unwrap() - 1);
        prop_assert!(changed.coverage(top, checksum).is_err());
    }
}
