//! Nitro documents: `nitro_attest`, which has the root of AWS compiled in.

use heirloom_attest::nitro::{self, Document};
use heirloom_model::counter::Time;
use heirloom_model::evidence::TrustAnchor;
use time::OffsetDateTime;

use crate::mutate::Random;
use crate::{theirs, vector};

/// Real documents, and the second in which each was made.
const REAL: [(&str, u64); 3] = [
    ("nitro_attest_fixture.cose", 1_736_179_625),
    ("evervault/beta_debug-mode.cose", 1_665_582_606),
    ("evervault/valid-attestation-doc.cose", 1_695_049_410),
];
/// Mutations of each. Others take milliseconds for one that only its signature gives away.
const ROUNDS: u64 = 600;
const DAY: u64 = 86_400;

/// Which module a verified document is of.
fn ours(bytes: &[u8], anchors: &[TrustAnchor], now: u64) -> Option<String> {
    let document = Document::parse(bytes).ok()?;
    let chain = nitro::verify_chain(&document, anchors, Time(now)).ok()?;
    let claims = nitro::verify(&document, &chain, Time(now)).ok()?;
    Some(claims.module_id().to_owned())
}

fn others(bytes: &[u8], now: u64) -> Option<String> {
    let now = OffsetDateTime::from_unix_timestamp(i64::try_from(now).unwrap()).unwrap();
    theirs(|| {
        let document: nitro_attest::UnparsedAttestationDoc<'_> = bytes.into();
        document.parse_and_verify(now).ok().map(|document| document.module_id.clone())
    })
}

fn root() -> Option<Vec<TrustAnchor>> {
    let text = vector("tee/nitro/aws_nitro_root_g1.pem")?;
    Some(vec![TrustAnchor::Nitro(pem::parse(text).unwrap().into_contents())])
}

#[test]
fn both_say_the_same_about_real_documents_at_any_time() {
    for (name, made) in REAL {
        let (Some(bytes), Some(anchors)) = (vector(&format!("tee/nitro/{name}")), root()) else {
            return;
        };
        assert!(ours(&bytes, &anchors, made).is_some(), "{name}");
        for now in [made, made + 60, made + DAY, made + 400 * DAY, made - DAY, made - 400 * DAY] {
            assert_eq!(ours(&bytes, &anchors, now), others(&bytes, now), "{name} at {now}");
        }
    }
}

#[test]
fn both_refuse_every_changed_byte_and_every_mutation() {
    for (seed, (name, made)) in REAL.into_iter().enumerate() {
        let (Some(bytes), Some(anchors)) = (vector(&format!("tee/nitro/{name}")), root()) else {
            return;
        };
        let mut random = Random::new(u64::try_from(seed).unwrap());
        let mutations = (0..ROUNDS).map(|_| random.mutated(&bytes));
        // Every seventh byte: all of them, with ours alone, are in the tests of `heirloom-attest`.
        let flips = (0..bytes.len()).step_by(7).map(|at| {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            changed
        });
        for changed in flips.chain(mutations).filter(|changed| *changed != bytes) {
            let verdicts = (ours(&changed, &anchors, made), others(&changed, made));
            assert_eq!(verdicts, (None, None), "{name}: {changed:02x?}");
        }
    }
}
