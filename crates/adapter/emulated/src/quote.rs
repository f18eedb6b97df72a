//! The quoting enclave: turns a report into a quote, version 3, with the machine's certificates.

use heirloom_model::digest::sha256;
use heirloom_model::evidence::ReportData;
use heirloom_model::measurement::{MrEnclave, MrSigner};

use crate::cpu::{Cpu, ForeignReport};
use crate::ecdsa::EcdsaKey;
use crate::provisioning::{PCE_SVN, PckCertificate};
use heirloom_launcher::report::{
    Attributes, FLAG_INIT, FLAG_PROVISION_KEY, Report, ReportBody, Secs, TargetInfo, put,
};

/// ISVPRODID of the quoting enclave.
pub(crate) const QE_PRODUCT_ID: u16 = 1;
/// ISVSVN of the quoting enclave.
pub(crate) const QE_ISV_SVN: u16 = 1;
/// ATTRIBUTES of the quoting enclave.
pub(crate) const QE_ATTRIBUTES: Attributes =
    Attributes { flags: FLAG_INIT | FLAG_PROVISION_KEY, xfrm: 0 };

/// The signer of the quoting enclave.
pub(crate) fn qe_signer() -> MrSigner {
    MrSigner::new(sha256(&[b"heirloom emulated quoting enclave signer"]))
}

/// The quoting enclave of one machine, with its certified attestation key.
pub struct QuotingEnclave {
    secs: Secs,
    attestation_key: EcdsaKey,
    /// Everything behind the attestation key in a quote; the same in all quotes.
    certification: Vec<u8>,
}

/// Bytes of the header of a quote.
const HEADER_BYTES: usize = 48;
/// Version of the quote format, and ECDSA over P-256 as kind of attestation key.
const QUOTE_VERSION: u16 = 3;
const ATTESTATION_KEY_ECDSA_P256: u16 = 2;
/// Certification data is a PEM chain.
const CERTIFICATION_PCK_CHAIN: u16 = 5;
/// Intel's quoting enclave names its vendor; verifiers accept no other.
const QE_VENDOR: [u8; 16] = [
    0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07,
];
/// What the quoting enclave adds to its attestation key before it is certified. Intel's has 32
/// bytes, and verifiers accept no other length.
const QE_AUTHENTICATION_DATA: [u8; 32] = [0; 32];

impl QuotingEnclave {
    /// Starts the quoting enclave and has its attestation key certified by the machine's PCK.
    pub fn new(cpu: &Cpu, certificate: &PckCertificate) -> Self {
        let secs = Secs {
            measurement: MrEnclave::new(sha256(&[b"heirloom emulated quoting enclave"])),
            signer: qe_signer(),
            product_id: QE_PRODUCT_ID,
            isv_svn: QE_ISV_SVN,
            attributes: QE_ATTRIBUTES,
            misc_select: 0,
        };
        let attestation_key = cpu.fuses().attestation_key();
        let mut report_data = [0; 64];
        let bound = sha256(&[&attestation_key.public_raw(), &QE_AUTHENTICATION_DATA]);
        put(&mut report_data, 0, &bound);
        let report = ReportBody::new(&secs, cpu.cpu_svn(), &ReportData::new(report_data));
        let signature = cpu.fuses().pck().sign_raw(report.as_bytes());
        let certification = [
            &report.as_bytes()[..],
            &signature,
            &length_of_two(&QE_AUTHENTICATION_DATA),
            &QE_AUTHENTICATION_DATA,
            &CERTIFICATION_PCK_CHAIN.to_le_bytes(),
            &length_of_four(certificate.chain.as_bytes()),
            certificate.chain.as_bytes(),
        ]
        .concat();
        Self { secs, attestation_key, certification }
    }

    /// To whom a report must be addressed to become a quote.
    pub fn target_info(&self) -> TargetInfo {
        self.secs.target_info()
    }

    /// Quotes a report that was made on this CPU for the quoting enclave.
    pub fn quote(&self, cpu: &Cpu, report: &Report) -> Result<Vec<u8>, ForeignReport> {
        let verified = cpu.verify_report(&self.secs, report)?;
        let mut signed = vec![0; HEADER_BYTES];
        put(&mut signed, 0, &QUOTE_VERSION.to_le_bytes());
        put(&mut signed, 2, &ATTESTATION_KEY_ECDSA_P256.to_le_bytes());
        put(&mut signed, 8, &QE_ISV_SVN.to_le_bytes());
        put(&mut signed, 10, &PCE_SVN.to_le_bytes());
        put(&mut signed, 12, &QE_VENDOR);
        signed.extend_from_slice(verified.body().as_bytes());
        let authentication = [
            &self.attestation_key.sign_raw(&signed)[..],
            &self.attestation_key.public_raw(),
            &self.certification,
        ]
        .concat();
        Ok([&signed[..], &length_of_four(&authentication), &authentication].concat())
    }
}

fn length_of_two(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).expect("authentication data is short").to_le_bytes()
}

fn length_of_four(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).expect("certificate chains are short").to_le_bytes()
}

#[cfg(test)]
mod tests;
