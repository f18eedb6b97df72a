use super::*;
use crate::fake::{DOMAIN, FakePlatform};
use crate::port::Sealing;
use heirloom_model::evidence::{LocalReport, ReportTarget};
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::{
    ImageMeasurement, LaunchDigest, LaunchedCode, Measurement, MrEnclave, TdMeasurement,
    VtpmMeasurement,
};
use heirloom_model::sealed::{CpuSvn, GramineSealRecipe, SnpSealRecipe, TpmSealRecipe};
use proptest::prelude::*;

fn node() -> NodeId {
    "node-1".parse().unwrap()
}

fn subject() -> Subject {
    Subject {
        purpose: SealedPurpose::Keyring,
        domain: DOMAIN,
        node: node(),
        first: Generation(3),
        last: Generation(4),
        sequence: 9,
    }
}

fn sealed_by(platform: &FakePlatform, content: &[u8]) -> StoredFile {
    let bytes = seal(platform, &platform.identity, &subject(), content).unwrap();
    StoredFile { name: "file".to_owned(), bytes }
}

fn open_with(platform: &FakePlatform, file: &StoredFile) -> Result<Opened, OpenError> {
    open(platform, &platform.identity, Home { domain: &DOMAIN, node: &node() }, file)
}

fn unreadable(platform: &FakePlatform, file: &StoredFile) -> Unreadable {
    match open_with(platform, file) {
        Err(OpenError::Unreadable(reason)) => reason,
        Err(OpenError::Platform(error)) => panic!("the platform failed: {error}"),
        Ok(_) => panic!("the file opened"),
    }
}

fn edited(file: &StoredFile, edit: impl FnOnce(&mut SealedEnvelope)) -> StoredFile {
    let mut envelope: SealedEnvelope = wire::decode(&file.bytes).unwrap();
    edit(&mut envelope);
    StoredFile { name: file.name.clone(), bytes: wire::encode(&envelope) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn content_survives_sealing(content in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let platform = FakePlatform::new();
        let file = sealed_by(&platform, &content);
        let opened = open_with(&platform, &file).unwrap_or_else(|error| panic!("{error}"));
        prop_assert_eq!(opened.subject, subject());
        prop_assert_eq!(opened.content.as_slice(), content.as_slice());
    }
}

/// Each diagnosis is made by changing exactly one thing about who opens.
#[test]
fn a_file_that_cannot_be_opened_says_why() {
    let sealer = FakePlatform::new();
    let file = sealed_by(&sealer, b"secret");
    let name = || file.name.clone();
    let own = Measurement::Sgx(MrEnclave::new([9; 32]));
    assert_eq!(
        unreadable(&FakePlatform::with(|identity| identity.measurement = own), &file),
        Unreadable::WrongMeasurement { file: name(), sealed_by: sealer.identity.measurement, own }
    );
    let own = PlatformId::new([9; 32]);
    assert_eq!(
        unreadable(&FakePlatform::with(|identity| identity.platform = own), &file),
        Unreadable::OtherPlatform { file: name(), sealed_on: sealer.identity.platform, own }
    );
    assert_eq!(
        unreadable(&FakePlatform::with(|identity| identity.isv_svn = 4), &file),
        Unreadable::CodeRolledBack { file: name(), sealed_at: 5, own: 4 }
    );
    let own = CpuSvn::new([6; 16]);
    assert_eq!(
        unreadable(&FakePlatform::with(|identity| identity.cpu_svn = own), &file),
        Unreadable::PlatformRolledBack { file: name(), sealed_at: sealer.identity.cpu_svn, own }
    );
    let other = DomainId::new([9; 32]);
    match open(&sealer, &sealer.identity, Home { domain: &other, node: &node() }, &file) {
        Err(OpenError::Unreadable(reason)) => {
            assert_eq!(reason, Unreadable::OtherDomain { file: name(), found: DOMAIN });
        }
        _ => panic!("the file of another domain is refused"),
    }
    let own: NodeId = "node-2".parse().unwrap();
    match open(&sealer, &sealer.identity, Home { domain: &DOMAIN, node: &own }, &file) {
        Err(OpenError::Unreadable(reason)) => {
            assert_eq!(reason, Unreadable::OtherNode { file: name(), found: node(), own });
        }
        _ => panic!("the file of another node is refused"),
    }
    // The name is authenticated: nobody writes another one into the file.
    let renamed = edited(&file, |envelope| envelope.header.node = "node-2".parse().unwrap());
    let own: NodeId = "node-2".parse().unwrap();
    match open(&sealer, &sealer.identity, Home { domain: &DOMAIN, node: &own }, &renamed) {
        Err(OpenError::Unreadable(reason)) => {
            assert_eq!(reason, Unreadable::Corrupt { file: name() });
        }
        _ => panic!("a file under another node's name is refused"),
    }
    let damaged = edited(&file, |envelope| envelope.ciphertext[0] ^= 1);
    assert_eq!(unreadable(&sealer, &damaged), Unreadable::Corrupt { file: name() });
}

/// The same code does not write two formats; a file of another one is whole all the same.
#[test]
fn a_file_of_another_format_is_not_corrupt_and_other_code_is_said_first() {
    let sealer = FakePlatform::new();
    let file = sealed_by(&sealer, b"secret");
    let older = edited(&file, |envelope| envelope.header.format = 1);
    let own = SEALED_FORMAT;
    let reason = Unreadable::OtherFormat { file: file.name.clone(), found: 1, own };
    assert_eq!(unreadable(&sealer, &older), reason);
    // A format that this code does not decode: its header has no node.
    let mut shorter = older.clone();
    let SealedEnvelope { header, .. } = wire::decode(&older.bytes).unwrap();
    let node = minicbor::to_vec(&header.node).unwrap();
    let at = wire::encode(&header).len() - node.len() + 1;
    assert_eq!((shorter.bytes[1], shorter.bytes[at..].starts_with(&node)), (0x8c, true));
    shorter.bytes[1] = 0x8b;
    shorter.bytes.drain(at..at + node.len());
    assert!(wire::decode::<SealedEnvelope>(&shorter.bytes).is_err());
    assert_eq!(unreadable(&sealer, &shorter), reason);
    // Swapped code is told whose the file is, whatever the format.
    let own = Measurement::Sgx(MrEnclave::new([9; 32]));
    let swapped = FakePlatform::with(|identity| identity.measurement = own);
    let sealed_by = sealer.identity.measurement;
    let reason = Unreadable::WrongMeasurement { file: file.name.clone(), sealed_by, own };
    assert_eq!(unreadable(&swapped, &older), reason);
    assert_eq!(unreadable(&swapped, &shorter), reason);
}

#[test]
fn newer_code_and_newer_firmware_open_what_older_ones_sealed() {
    let file = sealed_by(&FakePlatform::new(), b"secret");
    let newer = FakePlatform::with(|identity| {
        identity.isv_svn = 6;
        identity.cpu_svn = CpuSvn::new([8; 16]);
    });
    assert!(open_with(&newer, &file).is_ok());
}

#[test]
fn a_debug_twin_does_not_open_what_the_code_sealed() {
    let file = sealed_by(&FakePlatform::new(), b"secret");
    let twin = FakePlatform::with(|identity| identity.debug = true);
    assert_eq!(unreadable(&twin, &file), Unreadable::Corrupt { file: file.name.clone() });
}

/// The file is sealed correctly, only not in the way in which keepers seal.
#[test]
fn files_sealed_to_a_signer_or_readable_by_debug_code_are_refused() {
    type Edit = fn(&mut SgxSealRecipe);
    let platform = FakePlatform::new();
    let edits: [Edit; 3] = [
        |recipe| recipe.policy = SealPolicy::Signer,
        |recipe| recipe.flags_mask = 0b101,
        |recipe| recipe.key_id = Nonce::new([0; 32]),
    ];
    for edit in edits {
        let file = edited(&sealed_by(&platform, b""), |envelope| {
            let SealRecipe::Sgx(recipe) = &mut envelope.header.recipe else {
                panic!("it is of the kind SGX")
            };
            edit(recipe);
            let key = aead_key(&platform, &envelope.header.recipe).unwrap();
            let nonce = AeadNonce::assume_unique_for_key(envelope.header.nonce);
            let header = Aad::from(wire::encode(&envelope.header));
            envelope.ciphertext = b"secret".to_vec();
            key.seal_in_place_append_tag(nonce, header, &mut envelope.ciphertext).unwrap();
        });
        assert_eq!(unreadable(&platform, &file), Unreadable::Corrupt { file: "file".to_owned() });
    }
}

#[test]
fn a_file_with_any_byte_changed_never_opens() {
    let platform = FakePlatform::new();
    let file = sealed_by(&platform, &[0x5a; 64]);
    for at in 0..file.bytes.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut damaged = file.clone();
            damaged.bytes[at] ^= change;
            let _diagnosis = unreadable(&platform, &damaged);
        }
    }
    for length in 0..file.bytes.len() {
        let mut short = file.clone();
        short.bytes.truncate(length);
        assert_eq!(unreadable(&platform, &short), Unreadable::Corrupt { file: file.name.clone() });
    }
}

/// A platform that gives another key each time would make files that nobody can open.
#[test]
fn a_file_that_would_not_open_is_not_handed_out() {
    struct Moody(FakePlatform, std::cell::Cell<u8>);
    impl Platform for Moody {
        fn identity(&self) -> Result<PlatformIdentity, PlatformError> {
            self.0.identity()
        }
        fn sealing(&self) -> Result<Sealing, PlatformError> {
            self.0.sealing()
        }
        fn seal_recipe(&self, key_id: Nonce) -> Result<SealRecipe, PlatformError> {
            self.0.seal_recipe(key_id)
        }
        fn seal_key(
            &self,
            _: &SealRecipe,
        ) -> Result<heirloom_model::secret::Secret<16>, PlatformError> {
            self.1.set(self.1.get() + 1);
            Ok(heirloom_model::secret::Secret::new([self.1.get(); 16]))
        }
        fn evidence(
            &self,
            report_data: &heirloom_model::evidence::ReportData,
        ) -> Result<heirloom_model::evidence::Evidence, PlatformError> {
            self.0.evidence(report_data)
        }
        fn report_target(&self) -> Result<ReportTarget, PlatformError> {
            self.0.report_target()
        }
        fn report(
            &self,
            target: &ReportTarget,
            report_data: &heirloom_model::evidence::ReportData,
        ) -> Result<LocalReport, PlatformError> {
            self.0.report(target, report_data)
        }
        fn verify_report(&self, report: &LocalReport) -> Result<(), PlatformError> {
            self.0.verify_report(report)
        }
        fn random(&self, bytes: &mut [u8]) -> Result<(), PlatformError> {
            self.0.random(bytes)
        }
    }
    let platform = Moody(FakePlatform::new(), std::cell::Cell::new(0));
    let sealed = seal(&platform, &platform.0.identity, &subject(), b"secret");
    assert!(matches!(sealed, Err(PlatformError::Corrupt(_))));
}

/// A file says with what it was made, so that it can be made again after an update.
#[test]
fn a_file_is_older_once_code_or_platform_are_newer() {
    let file = sealed_by(&FakePlatform::new(), b"secret");
    let age = |platform: &FakePlatform| match open_with(platform, &file) {
        Ok(opened) => opened.age,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(age(&FakePlatform::new()), SealingAge::Current);
    let newer_code = FakePlatform::with(|identity| identity.isv_svn += 1);
    assert_eq!(age(&newer_code), SealingAge::Older);
    let newer_firmware = FakePlatform::with(|identity| identity.cpu_svn = CpuSvn::new([8; 16]));
    assert_eq!(age(&newer_firmware), SealingAge::Older);
}

#[test]
fn no_two_files_share_a_key_and_no_file_is_sealed_to_less_than_it_must() {
    let platform = FakePlatform::new();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..8 {
        let file = sealed_by(&platform, b"secret");
        let envelope: SealedEnvelope = wire::decode(&file.bytes).unwrap();
        let SealRecipe::Sgx(recipe) = envelope.header.recipe else {
            panic!("it is of the kind SGX")
        };
        assert!(seen.insert(recipe.key_id));
        assert_eq!(recipe.flags_mask & FLAGS_MASK_LEAST, FLAGS_MASK_LEAST);
        assert_eq!(recipe.policy, SealPolicy::Measurement);
        assert_eq!(recipe.isv_svn, platform.identity.isv_svn);
        assert_eq!(recipe.cpu_svn, platform.identity.cpu_svn);
    }
}

/// A recipe of another kind would be asked of a platform that knows nothing of this code.
#[test]
fn a_recipe_is_of_the_kind_that_measured_the_code() {
    let file = sealed_by(&FakePlatform::new(), b"secret");
    let envelope: SealedEnvelope = wire::decode(&file.bytes).unwrap();
    let sgx = envelope.header.recipe;
    let key_id = *sgx.key_id();
    let tpm = SealRecipe::Tpm(TpmSealRecipe { secret: 1, isv_svn: 5, key_id });
    let cpu_svn = CpuSvn::new([7; 16]);
    let gramine = SealRecipe::Gramine(GramineSealRecipe { isv_svn: 5, cpu_svn, key_id });
    let snp = |fields| {
        let (message_version, root, vmpl, guest_svn, tcb) = (1, 0, 0, 0, 0);
        SealRecipe::Snp(SnpSealRecipe {
            message_version,
            root,
            fields,
            vmpl,
            guest_svn,
            tcb,
            key_id,
        })
    };
    let measured = [
        Measurement::Sgx(MrEnclave::new([1; 32])),
        Measurement::Tdx(TdMeasurement::new([1; 32])),
        Measurement::Snp(LaunchDigest::new([1; 48])),
        Measurement::Nitro(ImageMeasurement::new([1; 32])),
        Measurement::Tpm(LaunchedCode::new([1; 32])),
        Measurement::Vtpm(VtpmMeasurement::new([1; 32])),
    ];
    let cases = [
        (sgx, Some(TeeKind::Sgx)),
        (gramine, Some(TeeKind::Sgx)),
        (tpm, Some(TeeKind::Tpm)),
        (snp(0b11_1111), Some(TeeKind::Snp)),
        // Neither without the measurement, nor without what says whether it can be debugged.
        (snp(0b11_0111), None),
        (snp(0b11_1110), None),
    ];
    for (recipe, kind) in cases {
        for measurement in measured {
            let header = SealedHeader { recipe, measurement, ..envelope.header.clone() };
            let expected = kind == Some(measurement.kind());
            assert_eq!(is_ours(&header), expected, "{recipe:?} of {measurement}");
        }
        let header = SealedHeader { recipe, nonce: [0; 12], ..envelope.header.clone() };
        assert!(!is_ours(&header), "a key of another file");
    }
}

#[test]
fn what_a_platform_refuses_is_said_by_its_name() {
    let platform = FakePlatform::new();
    let file = sealed_by(&platform, b"secret");
    let envelope: SealedEnvelope = wire::decode(&file.bytes).unwrap();
    let says =
        |error: PlatformError| match refused(&envelope.header, &platform.identity, "file", error) {
            OpenError::Unreadable(reason) => Some(reason),
            OpenError::Platform(_) => None,
        };
    let name = || "file".to_owned();
    let (asked, own) = (2, 1);
    assert_eq!(
        says(PlatformError::MachineSecretTooHigh { asked, own }),
        Some(Unreadable::MachineSecretMissing { file: name(), sealed_with: asked, own })
    );
    let reason = || "firmware 3, not 2".to_owned();
    assert_eq!(
        says(PlatformError::OtherCircumstances(reason())),
        Some(Unreadable::OtherCircumstances { file: name(), reason: reason() })
    );
    assert_eq!(says(PlatformError::Unreachable(String::new())), None);
}
