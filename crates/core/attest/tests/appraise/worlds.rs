//! Evidence of each kind under manufacturers of the tests' own, so that every field can be signed
//! as a test wants it.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use heirloom_attest::account::Account;
use heirloom_attest::appraiser::Appraiser;
use heirloom_attest::error::AppraiseError;
use heirloom_attest::result::AttestationResult;
use heirloom_attest::tpm::{AK_IDENTITY_OID, AkIdentity, Name};
use heirloom_model::appraisal::{
    AliasCheck, NitroRule, PcrRule, Reference, RevocationDemand, Smt, SnpGeneration, SnpMinimum,
    SnpRule, TpmRule, VekKind, VtpmRule,
};
use heirloom_model::counter::Time;
use heirloom_model::digest::{HostAuthority, sha256};
use heirloom_model::evidence::{
    Certificate, Endorsements, Evidence, LaunchClaims, PcrValue, ReportData, RevokedKeys,
    SnpEvidence, TpmEvidence, TrustAnchor, VtpmEvidence,
};
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::{LaunchedCode, MrSigner, Register32, Register48};
use heirloom_model::policy::AppraisalPolicy;
use minicbor::Encoder;

use crate::forge::{self, Key, NOW, Request, SINCE, UNTIL, extension, sequence, tlv};
use crate::vectors;

pub(crate) const DATA: ReportData = ReportData::new([0x11; 64]);
pub(crate) const CHIP: [u8; 64] = [0x5a; 64];
pub(crate) const MACHINE: PlatformId = PlatformId::new([0x77; 32]);
pub(crate) const MODULE: &str = "i-0123456789abcdef0-enc0123456789abcdef";

/// Keys are slow to make, and none is worth more than another.
static ARK: LazyLock<Key> = LazyLock::new(Key::rsa);
static ASK: LazyLock<Key> = LazyLock::new(Key::rsa);
static VTPM: LazyLock<Key> = LazyLock::new(Key::rsa);
/// Signatures of AMD's kind are random, so a root is signed once.
static ROOT: LazyLock<Vec<u8>> =
    LazyLock::new(|| Request::authority("ARK-Genoa", "ARK-Genoa", &ARK).signed(&ARK));

/// The network's attestation CA.
static CA: LazyLock<Key> = LazyLock::new(Key::p256);
static CA_ROOT: LazyLock<Vec<u8>> =
    LazyLock::new(|| Request::authority("CA", "CA", &CA).signed(&CA));

/// Evidence with everything that an appraisal of it needs.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) evidence: Evidence,
    pub(crate) anchors: Vec<TrustAnchor>,
    pub(crate) endorsements: Vec<Endorsements>,
    pub(crate) policy: AppraisalPolicy,
    pub(crate) expected: ReportData,
    pub(crate) now: Time,
}

impl Made {
    fn of(evidence: Evidence, anchor: TrustAnchor) -> Self {
        Self {
            evidence,
            anchors: vec![anchor],
            endorsements: Vec::new(),
            policy: policy(),
            expected: DATA,
            now: NOW,
        }
    }

    pub(crate) fn appraiser(&self) -> Appraiser {
        let mut appraiser = Appraiser::new(self.anchors.clone());
        for endorsements in &self.endorsements {
            appraiser.endorse(endorsements.clone()).unwrap();
        }
        appraiser
    }

    pub(crate) fn appraise(&self) -> Result<AttestationResult, AppraiseError> {
        self.appraise_with(&mut self.appraiser())
    }

    pub(crate) fn appraise_with(
        &self,
        appraiser: &mut Appraiser,
    ) -> Result<AttestationResult, AppraiseError> {
        appraiser.appraise(&self.evidence, &self.expected, &self.policy, self.now)
    }

    pub(crate) fn explain(&self) -> Account {
        self.appraiser().explain(&self.evidence, &self.expected, &self.policy, self.now)
    }

    pub(crate) fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }
}

/// A policy with a rule for each kind, each of which looks at everything that evidence made here
/// has a value for.
pub(crate) fn policy() -> AppraisalPolicy {
    let zero = Reference::Match(vec![Register48::new([0; 48])]);
    AppraisalPolicy {
        snp: Some(SnpRule {
            tcb_min: vec![SnpMinimum {
                generation: SnpGeneration::Genoa,
                fmc: 0,
                bootloader: 3,
                tee: 1,
                snp: 20,
                microcode: 209,
            }],
            keys: vec![VekKind::Vcek],
            vmpl_max: 0,
            id_key: zero.clone(),
            author_key: zero,
            host_data: Reference::Match(vec![Register32::new([0; 32])]),
            smt: Smt::Accepted,
            revocation: RevocationDemand::IfPresent,
            alias_check: AliasCheck::Demanded,
            unknown_info: 0,
        }),
        nitro: Some(NitroRule {
            pcr3: Reference::Match(vec![Register48::new([3; 48])]),
            pcr4: Reference::Match(vec![Register48::new([4; 48])]),
            pcr8: Reference::Match(vec![Register48::new([8; 48])]),
        }),
        tpm: Some(TpmRule {
            registers: (0..16).map(register_rule).collect(),
            revocation: RevocationDemand::IfPresent,
            authorities: Reference::Match(vec![AUTHORITY]),
        }),
        vtpm: Some(VtpmRule {
            measured: vec![4, 9, 11],
            registers: (0..16)
                .filter(|index| ![4, 9, 11].contains(index))
                .map(register_rule)
                .collect(),
        }),
        ..vectors::policy()
    }
}

fn register_rule(index: u8) -> PcrRule {
    PcrRule { index, value: Reference::Match(vec![Register32::new([index; 32])]) }
}

pub(crate) fn registers() -> Vec<PcrValue> {
    (0..16).map(|index| PcrValue { index, value: Register32::new([index; 32]) }).collect()
}

/// An SEV-SNP machine of the tests' own.
pub(crate) struct Snp {
    vek: Key,
    pub(crate) certificate: Request,
    /// Without its signature.
    pub(crate) report: Vec<u8>,
}

impl Snp {
    pub(crate) fn new() -> Self {
        let vek = Key::p384();
        let mut certificate = Request::leaf("SEV-Genoa", "SEV-VCEK", &vek);
        certificate.extensions = vec![
            extension("1.3.6.1.4.1.3704.1.2", false, &tlv(0x16, b"Genoa")),
            version(1, 3),
            version(2, 1),
            version(3, 20),
            version(8, 209),
            extension("1.3.6.1.4.1.3704.1.4", false, &CHIP),
        ];
        let mut report = vec![0; 1184];
        put(&mut report, 0x000, &[5]);
        put(&mut report, 0x004, &[7]);
        put(&mut report, 0x008, &0x3_0000_u64.to_le_bytes());
        put(&mut report, 0x034, &[1]);
        put(&mut report, 0x040, &[0x25]);
        put(&mut report, 0x050, DATA.as_bytes());
        put(&mut report, 0x090, &[0x22; 48]);
        for tcb in [0x038, 0x180, 0x1e0, 0x1f0] {
            put(&mut report, tcb, &[3, 1, 0, 0, 0, 0, 20, 209]);
        }
        put(&mut report, 0x188, &[0x19, 0x11, 1]);
        put(&mut report, 0x1a0, &CHIP);
        Self { vek, certificate, report }
    }

    /// The key of a cloud provider.
    pub(crate) fn of_provider() -> Self {
        let mut machine = Self::new();
        machine.certificate.subject = "SEV-VLEK";
        machine.certificate.extensions[5] =
            extension("1.3.6.1.4.1.3704.1.5", false, &tlv(0x16, b"CN=cloud"));
        machine.with(0x048, &[1 << 2])
    }

    /// The machine, of which the report says something else.
    pub(crate) fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        put(&mut self.report, at, bytes);
        self
    }

    pub(crate) fn made(&self) -> Made {
        let evidence = SnpEvidence { report: self.signed(), certificates: self.certificates() };
        Made::of(Evidence::Snp(evidence), ark())
    }

    fn signed(&self) -> Vec<u8> {
        let mut report = self.report.clone();
        let signature = self.vek.sign_evidence(&report[..0x2a0]);
        let (r, s) = signature.split_at(48);
        let reversed = |number: &[u8]| number.iter().rev().copied().collect::<Vec<_>>();
        put(&mut report, 0x2a0, &reversed(r));
        put(&mut report, 0x2e8, &reversed(s));
        report
    }

    fn certificates(&self) -> Vec<Certificate> {
        let authority = Request::authority("ARK-Genoa", "SEV-Genoa", &ASK);
        let certificates = [self.certificate.signed(&ASK), authority.signed(&ARK)];
        certificates.map(Certificate).to_vec()
    }

    /// A virtual TPM on this machine.
    pub(crate) fn vtpm(self) -> Made {
        self.vtpm_with(&registers(), DATA.qualify_vtpm())
    }

    pub(crate) fn vtpm_with(self, registers: &[PcrValue], qualifying: [u8; 32]) -> Made {
        // RSAPublicKey of 2048 bits: the modulus has 256 bytes, behind tags and a zero.
        let modulus = URL_SAFE_NO_PAD.encode(&VTPM.public()[9..265]);
        let runtime =
            format!(r#"{{"keys":[{{"kid":"HCLAkPub","kty":"RSA","e":"AQAB","n":"{modulus}"}}]}}"#);
        let machine = self.with(0x050, &[sha256(&[runtime.as_bytes()]), [0; 32]].concat());
        let length = u32::try_from(runtime.len()).unwrap();
        let header = [20 + length, 1, 2, 1, length].map(u32::to_le_bytes).concat();
        let hcl_report =
            [b"HCLA".as_slice(), &[0; 28], &machine.signed(), &header, runtime.as_bytes()].concat();
        let attest = attest(registers, &qualifying);
        let signature = VTPM.sign_evidence(&attest);
        let evidence = VtpmEvidence {
            hcl_report,
            certificates: machine.certificates(),
            signature: [&[0, 0x14, 0, 0x0b, 1, 0], signature.as_slice()].concat(),
            attest,
            registers: registers.to_vec(),
            report_data: DATA,
        };
        Made::of(Evidence::Vtpm(evidence), ark())
    }
}

fn ark() -> TrustAnchor {
    TrustAnchor::Snp(ROOT.clone())
}

/// AMD's list of revoked keys; authorities here have serial number 2.
pub(crate) fn revocations(since: Time, until: Time, serials: &[u8]) -> Endorsements {
    let revoked = forge::list(&ARK, "ARK-Genoa", since, until, serials);
    let root = Certificate(ark().certificate().to_vec());
    Endorsements::Snp(RevokedKeys { root, revoked })
}

/// The attestation CA's list of revoked keys; attestation keys here have serial number 1.
pub(crate) fn revoked_keys(since: Time, until: Time, serials: &[u8]) -> RevokedKeys {
    let revoked = forge::list(&CA, "CA", since, until, serials);
    RevokedKeys { root: Certificate(CA_ROOT.clone()), revoked }
}

fn version(part: u8, version: u8) -> Vec<u8> {
    let name = format!("1.3.6.1.4.1.3704.1.3.{part}");
    let number = if version < 128 { vec![2, 1, version] } else { vec![2, 2, 0, version] };
    extension(&name, false, &number)
}

fn put(report: &mut [u8], at: usize, bytes: &[u8]) {
    report[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Who approves what the tests' machine boots.
pub(crate) const AUTHORITY: HostAuthority = HostAuthority::new([0x55; 32]);

/// A machine with a TPM of the tests' own.
pub(crate) struct Tpm {
    pub(crate) launch: LaunchClaims,
    pub(crate) registers: Vec<PcrValue>,
    /// What the quote is made over, if not what it should be.
    pub(crate) qualifying: Option<[u8; 32]>,
}

impl Tpm {
    pub(crate) fn new() -> Self {
        let launch = LaunchClaims {
            measurement: LaunchedCode::new([0x33; 32]),
            signer: MrSigner::new([0x44; 32]),
            product_id: 5,
            isv_svn: 6,
            debug: false,
            authority: AUTHORITY,
        };
        Self { launch, registers: registers(), qualifying: None }
    }

    pub(crate) fn made(&self) -> Made {
        let key = Key::p256();
        let usage = sequence(&[forge::named("2.23.133.8.3")]);
        let identity = AkIdentity { platform: MACHINE, name: Name::of(b"a public area") };
        let mut certificate = Request::leaf("CA", "AK", &key);
        certificate.extensions = vec![
            extension("2.5.29.37", true, &usage),
            extension(AK_IDENTITY_OID, false, &identity.encode()),
        ];
        let qualifying = self.qualifying.unwrap_or_else(|| self.launch.qualify(&DATA));
        let attest = attest(&self.registers, &qualifying);
        let signature = key.sign_evidence(&attest);
        let (r, s) = signature.split_at(32);
        let evidence = TpmEvidence {
            signature: [&[0, 0x18, 0, 0x0b, 0, 32], r, &[0, 32], s].concat(),
            attest,
            certificates: vec![Certificate(certificate.signed(&CA))],
            registers: self.registers.clone(),
            launch: self.launch,
            report_data: DATA,
        };
        Made::of(Evidence::Tpm(evidence), TrustAnchor::Tpm(CA_ROOT.clone()))
    }
}

/// A quote: `TPMS_ATTEST`.
fn attest(registers: &[PcrValue], qualifying: &[u8; 32]) -> Vec<u8> {
    let mut selection = [0_u8; 3];
    for register in registers {
        selection[usize::from(register.index / 8)] |= 1 << (register.index % 8);
    }
    let values: Vec<_> = registers.iter().flat_map(|register| *register.value.as_bytes()).collect();
    let clock = [0_u8; 17];
    [
        [0xff, 0x54, 0x43, 0x47, 0x80, 0x18].as_slice(),
        &[0, 2, 9, 9],
        &[0, 32],
        qualifying,
        &clock,
        &0x0001_0002_0003_0004_u64.to_be_bytes(),
        &[0, 0, 0, 1, 0, 0x0b, 3],
        &selection,
        &[0, 32],
        &sha256(&[&values]),
    ]
    .concat()
}

/// A Nitro enclave of the tests' own.
pub(crate) struct Nitro {
    pub(crate) registers: Vec<(u8, [u8; 48])>,
    pub(crate) user_data: Vec<u8>,
    pub(crate) since: Time,
    pub(crate) until: Time,
}

impl Nitro {
    pub(crate) fn new() -> Self {
        let registers = [0, 1, 2, 3, 4, 8].map(|index| (index, [index.max(1); 48])).to_vec();
        Self { registers, user_data: DATA.as_bytes().to_vec(), since: SINCE, until: UNTIL }
    }

    pub(crate) fn made(&self) -> Made {
        let (authority, key) = (Key::p384(), Key::p384());
        let root = Request::authority("nitro", "nitro", &authority).signed(&authority);
        let mut leaf = Request::leaf("nitro", MODULE, &key);
        (leaf.since, leaf.until) = (self.since, self.until);
        let payload = self.payload(&leaf.signed(&authority), &root);
        let protected = [0xa1, 0x01, 0x38, 0x22];
        let mut signed = Encoder::new(Vec::new());
        signed.array(4).unwrap().str("Signature1").unwrap();
        signed.bytes(&protected).unwrap().bytes(&[]).unwrap().bytes(&payload).unwrap();
        let signature = key.sign_evidence(&signed.into_writer());
        let mut document = Encoder::new(Vec::new());
        document.array(4).unwrap().bytes(&protected).unwrap().map(0).unwrap();
        document.bytes(&payload).unwrap().bytes(&signature).unwrap();
        Made::of(Evidence::Nitro(document.into_writer()), TrustAnchor::Nitro(root))
    }

    fn payload(&self, leaf: &[u8], root: &[u8]) -> Vec<u8> {
        let mut map = Encoder::new(Vec::new());
        map.map(7).unwrap().str("module_id").unwrap().str(MODULE).unwrap();
        map.str("digest").unwrap().str("SHA384").unwrap();
        map.str("timestamp").unwrap().u64(NOW.0 * 1000).unwrap();
        map.str("pcrs").unwrap().map(u64::try_from(self.registers.len()).unwrap()).unwrap();
        for (index, value) in &self.registers {
            map.u8(*index).unwrap().bytes(value).unwrap();
        }
        map.str("certificate").unwrap().bytes(leaf).unwrap();
        map.str("cabundle").unwrap().array(1).unwrap().bytes(root).unwrap();
        map.str("user_data").unwrap().bytes(&self.user_data).unwrap();
        map.into_writer()
    }
}

/// One of each kind that is made here.
pub(crate) fn all() -> [Made; 4] {
    [Snp::new().made(), Nitro::new().made(), Tpm::new().made(), Snp::new().vtpm()]
}
