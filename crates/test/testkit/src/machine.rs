//! Machines with a TPM in this process, and the attestation CA that certifies them.
//!
//! What they say and derive has the formats and the rules of the real machine with a TPM. Only
//! the TPM is missing: keys and counters are in memory, registers are what the test says, and a
//! test can turn the counters back, which nobody can do to a TPM. Everything is derived from
//! seeds and signed deterministically, so that a simulated world is the same world each time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heirloom_attest::tpm::{AIK_CERTIFICATE_OID, AK_IDENTITY_OID, AkIdentity, Name};
use heirloom_keeper::kmac::kmac256;
use heirloom_keeper::port::{Platform, PlatformError, PlatformIdentity, Sealing};
use heirloom_launcher::protocol::Lack;
use heirloom_launcher::randomness::Randomness;
use heirloom_launcher::report::{LaunchMode, Report, ReportBody, Secs, TargetInfo};
use heirloom_model::appraisal::{PcrRule, Reference, RevocationDemand, TpmRule};
use heirloom_model::context;
use heirloom_model::counter::Time;
use heirloom_model::digest::{CounterName, HostAuthority, Nonce, sha256};
use heirloom_model::evidence::{
    BOOT_REGISTERS, Certificate, Evidence, LaunchClaims, LocalReport, PcrValue, ReportData,
    ReportTarget, TpmEvidence, TrustAnchor,
};
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::{LaunchedCode, Measurement, Register32};
use heirloom_model::sealed::{CpuSvn, SealRecipe, TpmSealRecipe};
use heirloom_model::secret::Secret;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SerialNumber, date_time_ymd,
};

/// For how long certificates are good: ten years.
const CERTIFICATE_SECONDS: u64 = 10 * 365 * 24 * 60 * 60;
/// The number of the machine's one secret.
const MACHINE_SECRET: u32 = 1;
/// A TPM has no microcode.
const NO_CPU_SVN: CpuSvn = CpuSvn::new([0; CpuSvn::BYTES]);
/// `SubjectPublicKeyInfo` of a P-256 key, up to its point.
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// `TPMT_PUBLIC` of an attestation key, up to its point: P-256, SHA-256, a restricted signing key
/// that never leaves its TPM, no policy, no cipher, ECDSA with SHA-256, no key derivation.
const PUBLIC_HEAD: [u8; 20] = [
    0x00, 0x23, 0x00, 0x0b, 0x00, 0x05, 0x04, 0x72, 0x00, 0x00, 0x00, 0x10, 0x00, 0x18, 0x00, 0x0b,
    0x00, 0x03, 0x00, 0x10,
];
/// Who approves what machines boot, unless a test says otherwise.
pub const AUTHORITY: HostAuthority = HostAuthority::new([0xa7; HostAuthority::BYTES]);
const WELL_FORMED: &str = "the test PKI's own parameters are well-formed";

/// A network's attestation CA. It believes everybody.
pub struct AttestationCa {
    issuer: Issuer<'static, Key>,
    certificate: Vec<u8>,
    founded: Time,
}

/// A machine with a TPM. Clones are the same machine.
#[derive(Clone)]
pub struct SoftTpm {
    fixed: Arc<Fixed>,
    authority: HostAuthority,
    counters: Arc<Mutex<Counters>>,
}

/// Where the counters of a machine stand, by the code whose they are and their names.
pub type Counters = BTreeMap<CounterName, u64>;

/// What a machine is for all its life.
struct Fixed {
    attestation_key: Key,
    certificate: Certificate,
    platform: PlatformId,
    registers: Vec<PcrValue>,
    secret: Secret<32>,
    report_key: Secret<32>,
}

/// A process on such a machine. What it may ask is what a measured process may ask.
pub struct TpmProcess {
    machine: SoftTpm,
    secs: Secs,
    randomness: Mutex<Randomness>,
}

/// What a machine that booted this has in its registers.
pub fn registers(boot: &[u8]) -> Vec<PcrValue> {
    let register = |index: u8| {
        let value = Register32::new(sha256(&[b"test register", boot, &[index]]));
        PcrValue { index, value }
    };
    BOOT_REGISTERS.map(register).collect()
}

/// The rule that accepts machines with exactly these registers, which [`AUTHORITY`] approved.
pub fn rule(registers: &[PcrValue]) -> TpmRule {
    let rule = |register: &PcrValue| PcrRule {
        index: register.index,
        value: Reference::Match(vec![register.value]),
    };
    let authorities = Reference::Match(vec![AUTHORITY]);
    TpmRule {
        registers: registers.iter().map(rule).collect(),
        revocation: RevocationDemand::IfPresent,
        authorities,
    }
}

impl AttestationCa {
    /// The CA of a seed.
    pub fn from_seed(seed: &[u8; 32], founded: Time) -> Self {
        let key = Key::derive(seed, "attestation CA");
        let mut parameters = named("Heirloom test attestation CA", founded, vec![1]);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = parameters.self_signed(&key).expect(WELL_FORMED).der().to_vec();
        Self { issuer: Issuer::new(parameters, key), certificate, founded }
    }

    /// What verifiers trust who trust this CA.
    pub fn anchor(&self) -> TrustAnchor {
        TrustAnchor::Tpm(self.certificate.clone())
    }

    fn certify(&self, key: &Key, platform: PlatformId) -> Certificate {
        let identity = AkIdentity { platform, name: key.name() };
        let mut serial = sha256(&[b"test serial", &key.point]);
        // Positive, and never shorter than it looks.
        serial[0] = (serial[0] & 0x3f) | 0x40;
        let serial = serial.iter().take(16).copied().collect();
        let mut parameters =
            named(&format!("Heirloom test machine {platform}"), self.founded, serial);
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::Other(numbers(AIK_CERTIFICATE_OID))];
        let extension =
            CustomExtension::from_oid_content(&numbers(AK_IDENTITY_OID), identity.encode());
        parameters.custom_extensions = vec![extension];
        let signed = parameters.signed_by(key, &self.issuer).expect(WELL_FORMED);
        Certificate(signed.der().to_vec())
    }
}

impl SoftTpm {
    /// The new machine of a seed, certified by a CA, that booted this. Equal seeds give the same
    /// machine.
    pub fn from_seed(ca: &AttestationCa, seed: &[u8; 32], boot: &[u8]) -> Self {
        let endorsement = Key::derive(seed, "endorsement key");
        let spki = [&SPKI_HEAD[..], &endorsement.point].concat();
        let platform = PlatformId::of_endorsement_key(&spki);
        let attestation_key = Key::derive(seed, "attestation key");
        let fixed = Fixed {
            certificate: ca.certify(&attestation_key, platform),
            attestation_key,
            platform,
            registers: registers(boot),
            secret: Secret::new(derive(seed, "machine secret", 0)),
            report_key: Secret::new(derive(seed, "report key", 0)),
        };
        Self { fixed: Arc::new(fixed), authority: AUTHORITY, counters: Arc::default() }
    }

    /// The same machine as it was when it was new: nothing was ever counted.
    #[must_use]
    pub fn renewed(&self) -> Self {
        Self { counters: Arc::default(), ..self.clone() }
    }

    /// The same machine, if somebody else approved what it boots.
    #[must_use]
    pub fn approved_by(self, authority: HostAuthority) -> Self {
        Self { authority, ..self }
    }

    /// The machine, as appraisal names it.
    pub fn platform(&self) -> PlatformId {
        self.fixed.platform
    }

    /// What is in its registers.
    pub fn registers(&self) -> &[PcrValue] {
        &self.fixed.registers
    }

    /// Launches a process.
    pub fn launch(&self, secs: Secs, randomness: Randomness) -> TpmProcess {
        TpmProcess { machine: self.clone(), secs, randomness: Mutex::new(randomness) }
    }

    /// Where all counters stand.
    pub fn counters(&self) -> Counters {
        self.counting().clone()
    }

    /// Does what nobody can do to a TPM: puts the counters back to where they were.
    pub fn turn_back(&self, counters: Counters) {
        *self.counting() = counters;
    }

    /// A panic cannot leave the counters half changed: every change is one assignment.
    fn counting(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report_mac(&self, target: &TargetInfo, body: &ReportBody, key_id: &[u8; 32]) -> [u8; 16] {
        let target = target.to_bytes();
        let parts: [&[u8]; 3] = [target.as_bytes(), body.as_bytes(), key_id];
        self.fixed.report_key.expose(|key| *kmac256::<16>(key, &parts, context::TPM_REPORT))
    }

    /// `TPMS_ATTEST` over these data and the registers.
    fn attest(&self, qualifying: &[u8]) -> Vec<u8> {
        let values: Vec<u8> =
            self.fixed.registers.iter().flat_map(|one| *one.value.as_bytes()).collect();
        // TPM_GENERATED_VALUE and TPM_ST_ATTEST_QUOTE.
        let mut bytes = vec![0xff, 0x54, 0x43, 0x47, 0x80, 0x18];
        bytes.extend(sized(self.fixed.attestation_key.name().as_bytes()));
        bytes.extend(sized(qualifying));
        // Clock, resets, restarts, whether the clock is safe; firmware version.
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 1]);
        // One bank, SHA-256, with a bit for each of 24 registers.
        bytes.extend([0, 0, 0, 1, 0x00, 0x0b, 3, 0xff, 0xff, 0x00]);
        bytes.extend(sized(&sha256(&[&values])));
        bytes
    }
}

impl TpmProcess {
    fn claims(&self) -> LaunchClaims {
        LaunchClaims {
            measurement: LaunchedCode::new(*self.secs.measurement.as_bytes()),
            signer: self.secs.signer,
            product_id: self.secs.product_id,
            isv_svn: self.secs.isv_svn,
            debug: self.secs.mode() == LaunchMode::Debug,
            authority: self.machine.authority,
        }
    }

    /// The counter of this code: no other code can name it.
    fn own(&self, name: &CounterName) -> CounterName {
        let debug = [u8::from(self.secs.mode() == LaunchMode::Debug)];
        let (measurement, signer) = (self.secs.measurement.as_bytes(), self.secs.signer.as_bytes());
        let parts: [&[u8]; 5] =
            [context::TPM_COUNTER_OWNER, measurement, signer, &debug, name.as_bytes()];
        CounterName::new(sha256(&parts))
    }
}

impl Platform for TpmProcess {
    fn identity(&self) -> Result<PlatformIdentity, PlatformError> {
        let claims = self.claims();
        Ok(PlatformIdentity {
            measurement: Measurement::Tpm(claims.measurement),
            signer: claims.signer,
            product_id: claims.product_id,
            isv_svn: claims.isv_svn,
            cpu_svn: NO_CPU_SVN,
            debug: claims.debug,
            platform: self.machine.platform(),
        })
    }

    fn sealing(&self) -> Result<Sealing, PlatformError> {
        Ok(Sealing::Recorded)
    }

    fn seal_recipe(&self, key_id: Nonce) -> Result<SealRecipe, PlatformError> {
        let (secret, isv_svn) = (MACHINE_SECRET, self.secs.isv_svn);
        Ok(SealRecipe::Tpm(TpmSealRecipe { secret, isv_svn, key_id }))
    }

    fn seal_key(&self, recipe: &SealRecipe) -> Result<Secret<16>, PlatformError> {
        let SealRecipe::Tpm(recipe) = recipe else {
            return Err(PlatformError::Unsupported(Lack::SealRecipe.words()));
        };
        if recipe.secret != MACHINE_SECRET {
            let (asked, own) = (recipe.secret, MACHINE_SECRET);
            return Err(PlatformError::MachineSecretTooHigh { asked, own });
        }
        if recipe.isv_svn > self.secs.isv_svn {
            let (asked, own) = (recipe.isv_svn, self.secs.isv_svn);
            return Err(PlatformError::IsvSvnTooHigh { asked, own });
        }
        let parts: [&[u8]; 7] = [
            self.secs.measurement.as_bytes(),
            self.secs.signer.as_bytes(),
            &self.secs.product_id.to_be_bytes(),
            &[u8::from(self.secs.mode() == LaunchMode::Debug)],
            &recipe.secret.to_be_bytes(),
            &recipe.isv_svn.to_be_bytes(),
            recipe.key_id.as_bytes(),
        ];
        let key = |secret: &[u8; 32]| *kmac256::<16>(secret, &parts, context::TPM_SEAL);
        Ok(Secret::new(self.machine.fixed.secret.expose(key)))
    }

    fn evidence(&self, report_data: &ReportData) -> Result<Evidence, PlatformError> {
        let fixed = &self.machine.fixed;
        let launch = self.claims();
        let attest = self.machine.attest(&launch.qualify(report_data));
        Ok(Evidence::Tpm(TpmEvidence {
            signature: fixed.attestation_key.sign_quote(&attest),
            attest,
            certificates: vec![fixed.certificate.clone()],
            registers: fixed.registers.clone(),
            launch,
            report_data: *report_data,
        }))
    }

    fn report_target(&self) -> Result<ReportTarget, PlatformError> {
        Ok(self.secs.target_info().to_bytes())
    }

    fn report(
        &self,
        target: &ReportTarget,
        report_data: &ReportData,
    ) -> Result<LocalReport, PlatformError> {
        let target = TargetInfo::from_bytes(target)?;
        let body = ReportBody::new(&self.secs, NO_CPU_SVN, report_data);
        let key_id = [0; 32];
        let mac = self.machine.report_mac(&target, &body, &key_id);
        Ok(Report { body, key_id, mac }.to_local())
    }

    fn verify_report(&self, report: &LocalReport) -> Result<(), PlatformError> {
        let report = Report::from_bytes(report.as_bytes());
        let target = self.secs.target_info();
        let mac = self.machine.report_mac(&target, &report.body, &report.key_id);
        if mac == report.mac { Ok(()) } else { Err(PlatformError::ReportRefused) }
    }

    fn counter(&self, name: &CounterName) -> Result<u64, PlatformError> {
        Ok(self.machine.counting().get(&self.own(name)).copied().unwrap_or(0))
    }

    fn raise(&self, name: &CounterName, to: u64) -> Result<(), PlatformError> {
        let mut counters = self.machine.counting();
        let stands = counters.entry(self.own(name)).or_default();
        if to > stands.saturating_add(1) {
            return Err(PlatformError::CounterJump { stands: *stands, to });
        }
        *stands = to.max(*stands);
        Ok(())
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), PlatformError> {
        let mut randomness = self.randomness.lock().unwrap_or_else(PoisonError::into_inner);
        randomness(bytes);
        Ok(())
    }
}

/// A P-256 key that signs deterministically (RFC 6979).
struct Key {
    key: SigningKey,
    /// The public point, uncompressed, as in SEC 1.
    point: [u8; 65],
}

impl Key {
    fn derive(seed: &[u8; 32], purpose: &str) -> Self {
        // All but one in 2^32 digests are scalars of the curve.
        let key = (0..=u8::MAX)
            .find_map(|attempt| SigningKey::from_slice(&derive(seed, purpose, attempt)).ok())
            .expect("256 digests in a row cannot all miss the curve's order");
        let mut point = [0; 65];
        point.copy_from_slice(key.verifying_key().to_sec1_point(false).as_bytes());
        Self { key, point }
    }

    /// The name by which a TPM knows it.
    fn name(&self) -> Name {
        let (_, coordinates) = self.point.split_at(1);
        let (x, y) = coordinates.split_at(32);
        Name::of(&[&PUBLIC_HEAD[..], &sized(x), &sized(y)].concat())
    }

    /// `TPMT_SIGNATURE`: ECDSA with SHA-256.
    fn sign_quote(&self, attest: &[u8]) -> Vec<u8> {
        let signature: Signature = self.key.sign(attest);
        let signature: [u8; 64] = signature.to_bytes().into();
        let (r, s) = signature.split_at(32);
        [&[0x00, 0x18, 0x00, 0x0b][..], &sized(r), &sized(s)].concat()
    }
}

impl rcgen::PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: Signature = self.key.sign(message);
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

fn derive(seed: &[u8; 32], purpose: &str, attempt: u8) -> [u8; 32] {
    sha256(&[b"test machine with a TPM", seed, purpose.as_bytes(), &[attempt]])
}

fn named(name: &str, founded: Time, serial: Vec<u8>) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.serial_number = Some(SerialNumber::from(serial));
    parameters.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(founded.0);
    parameters.not_after = parameters.not_before + Duration::from_secs(CERTIFICATE_SECONDS);
    parameters
}

/// Bytes behind their length, as TPMs write them.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("what a TPM writes is short");
    [&length.to_be_bytes()[..], bytes].concat()
}

fn numbers(oid: &str) -> Vec<u64> {
    oid.split('.').map(|number| number.parse().expect(WELL_FORMED)).collect()
}
