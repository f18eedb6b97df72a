//! The emulated manufacturer: a development PKI in the format of Intel's DCAP collateral.
//!
//! One secret derives every key, so that the same secret is the same manufacturer. Every
//! certificate says that it is a development root. Times are arguments.

mod certificate;
mod der;
mod tcb;

use heirloom_model::counter::Time;
use heirloom_model::evidence::{DcapCollateral, Endorsements, TrustAnchor};
use heirloom_model::identifier::PlatformId;
use heirloom_model::sealed::CpuSvn;
use minicbor::{Decode, Encode};
use rcgen::Issuer;

use crate::ecdsa::{EcdsaKey, PublicPoint, derive};
use certificate::{Subject, crl, parameters};

/// For how long collateral is good, as Intel's is.
pub const COLLATERAL_SECONDS: u64 = 30 * 24 * 60 * 60;
/// The platform family of every emulated machine.
pub const FMSPC: [u8; 6] = [0x00, 0x48, 0x4c, 0x4d, 0x00, 0x00];
/// The CPUSVN of a new machine. Its first component counts microcode updates.
pub const FIRST_CPU_SVN: CpuSvn = CpuSvn::new([2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
/// Security version of the emulated provisioning certification enclave.
pub(crate) const PCE_SVN: u16 = 13;
/// Revoked certificates of one development root: it serves development.
pub const REVOKED_MAX: usize = 4_096;

/// The serial number of a PCK certificate.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
#[cbor(transparent)]
pub struct PckSerial(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    [u8; 16],
);

/// What a machine asks the manufacturer to certify.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PckRequest {
    /// Who it is.
    pub ppid: [u8; 16],
    /// The key of its provisioning certification enclave, as x and y.
    pub public_key: [u8; 64],
    /// Where it stands.
    pub cpu_svn: CpuSvn,
}

/// A machine's certificate for its quoting enclave.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct PckCertificate {
    /// The certificate and its issuers up to the root, as PEM.
    #[n(0)]
    pub chain: String,
    /// Its serial number.
    #[n(1)]
    pub serial: PckSerial,
    /// The machine.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub ppid: [u8; 16],
    /// The security version that it certifies.
    #[n(3)]
    pub cpu_svn: CpuSvn,
}

impl PckCertificate {
    /// The machine, as appraisal names it.
    pub fn platform(&self) -> PlatformId {
        PlatformId::of_ppid(&self.ppid)
    }
}

/// What the manufacturer has announced so far.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Announcements {
    /// When the manufacturer was founded: certificates are valid from then on.
    #[n(0)]
    pub founded: Time,
    /// Machines below this are out of date.
    #[n(1)]
    pub required: CpuSvn,
    /// Since when.
    #[n(2)]
    pub required_since: Time,
    /// Certificates that are not good any more, in the order of revocation.
    #[n(3)]
    pub revoked: Vec<Revocation>,
    /// Grows with every announcement: CRL number and TCB evaluation number.
    #[n(4)]
    pub number: u32,
}

/// A certificate that is not good any more.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Revocation {
    /// Which.
    #[n(0)]
    pub serial: PckSerial,
    /// Since when.
    #[n(1)]
    pub time: Time,
}

/// Why the manufacturer did not announce.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AnnounceError {
    /// The list is full.
    #[error("this development root has revoked {REVOKED_MAX} certificates; make a new one")]
    TooManyRevocations,
    /// The counter is at its end.
    #[error("this development root has made its last announcement; make a new one")]
    NumberExhausted,
}

/// The development root and everything below it.
pub struct DevelopmentRoot {
    announcements: Announcements,
    secret_for_serials: [u8; 32],
    root: Issuer<'static, EcdsaKey>,
    root_der: Vec<u8>,
    root_pem: String,
    pck_ca: Issuer<'static, EcdsaKey>,
    pck_ca_pem: String,
    tcb_key: EcdsaKey,
    tcb_pem: String,
}

impl DevelopmentRoot {
    /// The manufacturer of a secret, newly founded.
    pub fn from_seed(seed: &[u8; 32], founded: Time) -> Self {
        let announcements = Announcements {
            founded,
            required: FIRST_CPU_SVN,
            required_since: founded,
            revoked: Vec::new(),
            number: 1,
        };
        Self::resume(seed, announcements)
    }

    /// The manufacturer of a secret with what it has announced so far.
    pub fn resume(seed: &[u8; 32], announcements: Announcements) -> Self {
        let founded = announcements.founded;
        let key = |purpose: &str| EcdsaKey::derive(seed, purpose);
        let (root_key, pck_ca_key) = (key("development root CA"), key("development PCK CA"));
        let tcb_key = key("development TCB signing");

        let root_parameters = parameters(Subject::Root, founded);
        let root_certificate = root_parameters.self_signed(&root_key).expect(WELL_FORMED);
        let root = Issuer::new(root_parameters, root_key);
        let pck_ca_parameters = parameters(Subject::PckCa, founded);
        let pck_ca_certificate =
            pck_ca_parameters.signed_by(&pck_ca_key, &root).expect(WELL_FORMED);
        let tcb_parameters = parameters(Subject::TcbSigning, founded);
        let tcb_certificate = tcb_parameters.signed_by(&tcb_key, &root).expect(WELL_FORMED);
        Self {
            announcements,
            secret_for_serials: derive(seed, "PCK serial numbers", &[]),
            root_der: root_certificate.der().to_vec(),
            root_pem: root_certificate.pem(),
            root,
            pck_ca: Issuer::new(pck_ca_parameters, pck_ca_key),
            pck_ca_pem: pck_ca_certificate.pem(),
            tcb_key,
            tcb_pem: tcb_certificate.pem(),
        }
    }

    /// Certifies a machine at its current security version.
    pub fn certify(&self, request: &PckRequest) -> PckCertificate {
        let detail = [&request.ppid[..], request.cpu_svn.as_bytes(), &request.public_key].concat();
        let digest = derive(&self.secret_for_serials, "serial", &detail);
        let mut serial: [u8; 16] = heirloom_launcher::report::take(&digest, 0);
        // Serial numbers are positive, and never shorter than they look.
        if let Some(first) = serial.first_mut() {
            *first = (*first & 0x3f) | 0x40;
        }
        let mut parameters = parameters(Subject::Pck { serial }, self.announcements.founded);
        parameters.custom_extensions.push(der::sgx_extension(request));
        let certificate = parameters
            .signed_by(&PublicPoint::of(&request.public_key), &self.pck_ca)
            .expect(WELL_FORMED);
        PckCertificate {
            chain: [&certificate.pem()[..], &self.pck_ca_pem, &self.root_pem].concat(),
            serial: PckSerial(serial),
            ppid: request.ppid,
            cpu_svn: request.cpu_svn,
        }
    }

    /// Announces that a certificate is not good any more.
    pub fn revoke(&mut self, serial: PckSerial, time: Time) -> Result<(), AnnounceError> {
        if self.announcements.revoked.iter().any(|present| present.serial == serial) {
            return Ok(());
        }
        if self.announcements.revoked.len() >= REVOKED_MAX {
            return Err(AnnounceError::TooManyRevocations);
        }
        self.next_number()?;
        self.announcements.revoked.push(Revocation { serial, time });
        Ok(())
    }

    /// Announces a TCB recovery: machines below `required` are out of date.
    pub fn require(&mut self, required: CpuSvn, time: Time) -> Result<(), AnnounceError> {
        self.next_number()?;
        self.announcements.required = required;
        self.announcements.required_since = time;
        Ok(())
    }

    /// The collateral of the only platform family, good for `valid_seconds` from `issued` on.
    pub fn collateral(&self, issued: Time, valid_seconds: u64) -> DcapCollateral {
        let window = tcb::Window { issued, next: issued.after(valid_seconds) };
        let known = &self.announcements;
        let tcb_info = tcb::tcb_info(&window, known);
        let qe_identity = tcb::qe_identity(&window, known);
        let pck_chain = [&self.pck_ca_pem[..], &self.root_pem].concat();
        let tcb_chain = [&self.tcb_pem[..], &self.root_pem].concat();
        DcapCollateral {
            pck_crl_issuer_chain: pck_chain,
            root_ca_crl: crl(&self.root, &window, known.number, &[]),
            pck_crl: crl(&self.pck_ca, &window, known.number, &known.revoked),
            tcb_info_issuer_chain: tcb_chain.clone(),
            tcb_info_signature: self.tcb_key.sign_raw(tcb_info.as_bytes()).to_vec(),
            tcb_info,
            qe_identity_issuer_chain: tcb_chain,
            qe_identity_signature: self.tcb_key.sign_raw(qe_identity.as_bytes()).to_vec(),
            qe_identity,
        }
    }

    /// The collateral as endorsements, good for the usual time.
    pub fn endorsements(&self, issued: Time) -> Endorsements {
        Endorsements::SgxDcap(self.collateral(issued, COLLATERAL_SECONDS))
    }

    /// What verifiers trust who trust this manufacturer.
    pub fn anchor(&self) -> TrustAnchor {
        TrustAnchor::SgxDcap(self.root_der.clone())
    }

    /// What it has announced so far, to store it.
    pub fn announcements(&self) -> &Announcements {
        &self.announcements
    }

    fn next_number(&mut self) -> Result<(), AnnounceError> {
        let next = self.announcements.number.checked_add(1);
        self.announcements.number = next.ok_or(AnnounceError::NumberExhausted)?;
        Ok(())
    }
}

const WELL_FORMED: &str = "the development PKI's own parameters are well-formed";

heirloom_model::wire! {
    Announcements: "announcements of a development root", 512 * 1024;
    PckCertificate: "PCK certificate", 16 * 1024;
}
