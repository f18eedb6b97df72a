//! Quotes of TPMs: the crate `tss-esapi`, which takes structures apart with the TCG's own library
//! (tpm2-tss) and verifies nothing.
//!
//! What it takes and we refuse, by name: other statements than quotes, other banks of registers than
//! SHA-256, several of them at once, and bytes after the end.

use heirloom_attest::tpm::{AkPublic, EkPublic, Quote};
use tss_esapi::abstraction::ek::create_ek_public_from_default_template;
use tss_esapi::interface_types::algorithm::{AsymmetricAlgorithm, HashingAlgorithm};
use tss_esapi::structures::{Attest, AttestInfo, PcrSlot, Public, PublicKeyRsa};
use tss_esapi::traits::{Marshall as _, UnMarshall as _};

use crate::mutate::Random;
use crate::{theirs, vector};

const REAL: [&str; 3] =
    ["azure_vtpm_quote.msg", "swtpm_quote.attest", "coco/az-snp-vtpm_tpm-quote.msg"];
const ROUNDS: u64 = 4_000;

/// What both say about a quote.
#[derive(Debug, PartialEq)]
struct Said {
    qualified_signer: Vec<u8>,
    qualifying: Vec<u8>,
    milliseconds: u64,
    resets: u32,
    restarts: u32,
    safe: bool,
    firmware_version: u64,
    selection: u32,
}

fn ours(bytes: &[u8]) -> Option<Said> {
    let quote = Quote::parse(bytes).ok()?;
    let clock = quote.clock();
    Some(Said {
        qualified_signer: quote.qualified_signer().to_vec(),
        qualifying: quote.qualifying().to_vec(),
        milliseconds: clock.milliseconds,
        resets: clock.resets,
        restarts: clock.restarts,
        safe: clock.safe,
        firmware_version: quote.firmware_version(),
        selection: quote.selection(),
    })
}

/// What the other library says, if it is a quote over one bank of SHA-256 with nothing behind it.
fn said_by_them(bytes: &[u8]) -> Option<Said> {
    let attest = theirs(|| Attest::unmarshall(bytes).ok())?;
    let AttestInfo::Quote { info } = attest.attested() else { return None };
    let [bank] = info.pcr_selection().get_selections() else { return None };
    let again = attest.marshall().ok()?;
    if bank.hashing_algorithm() != HashingAlgorithm::Sha256 || again.len() != bytes.len() {
        return None;
    }
    let clock = attest.clock_info();
    let mask = |mask: u32, slot: PcrSlot| mask | u32::from(slot);
    Some(Said {
        qualified_signer: attest.qualified_signer().value().to_vec(),
        qualifying: attest.extra_data().value().to_vec(),
        milliseconds: clock.clock(),
        resets: clock.reset_count(),
        restarts: clock.restart_count(),
        safe: clock.safe(),
        firmware_version: attest.firmware_version(),
        selection: bank.selected().into_iter().fold(0, mask),
    })
}

#[test]
fn both_read_the_same_in_every_real_quote() {
    for name in REAL {
        let Some(bytes) = vector(&format!("tee/tpm/{name}")) else { return };
        let ours = ours(&bytes);
        assert!(ours.is_some(), "{name}");
        assert_eq!(ours, said_by_them(&bytes), "{name}");
    }
}

#[test]
fn they_refuse_nothing_that_we_read_and_read_nothing_else_in_it() {
    let mut read = 0_u32;
    for (seed, name) in (0..).zip(REAL) {
        let Some(original) = vector(&format!("tee/tpm/{name}")) else { return };
        let mut random = Random::new(seed);
        for _ in 0..ROUNDS {
            let bytes = random.mutated(&original);
            if let Some(ours) = ours(&bytes) {
                assert_eq!(Some(ours), said_by_them(&bytes), "{name}: {bytes:02x?}");
                read += 1;
            }
        }
    }
    assert!(read > 1_000, "only {read} of the mutations are quotes");
}

/// The public area of an endorsement key by the TCG's template, as their library writes it, with a
/// modulus that is nobody's.
fn endorsement_key() -> Vec<u8> {
    let algorithm = AsymmetricAlgorithm::Rsa;
    let template = create_ek_public_from_default_template(algorithm, None);
    let Ok(Public::Rsa {
        object_attributes,
        name_hashing_algorithm,
        auth_policy,
        parameters,
        unique: _,
    }) = template
    else {
        panic!("the template is that of an RSA key");
    };
    let unique = PublicKeyRsa::try_from(vec![0xc5; 256]).expect("2048 bits");
    let public =
        Public::Rsa { object_attributes, name_hashing_algorithm, auth_policy, parameters, unique };
    public.marshall().expect("it is whole")
}

#[test]
fn a_key_by_their_template_is_an_endorsement_key_and_no_attestation_key() {
    let area = endorsement_key();
    let ours = EkPublic::parse(&area).expect("the template of the TCG");
    assert!(ours.spki().windows(256).any(|modulus| modulus == [0xc5; 256]));
    assert!(AkPublic::parse(&area).is_err());
}

#[test]
fn they_refuse_no_public_area_that_we_take() {
    let original = endorsement_key();
    let mut random = Random::new(7);
    let mut taken = 0_u32;
    for _ in 0..ROUNDS {
        let bytes = random.mutated(&original);
        if EkPublic::parse(&bytes).is_ok() || AkPublic::parse(&bytes).is_ok() {
            let again = theirs(|| Public::unmarshall(&bytes).ok()?.marshall().ok());
            assert_eq!(again.as_deref(), Some(bytes.as_slice()));
            taken += 1;
        }
    }
    assert!(taken > 500, "only {taken} of the mutations are endorsement keys");
}
