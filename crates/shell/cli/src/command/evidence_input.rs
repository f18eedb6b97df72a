//! Evidence as platforms and tools hand it out: encoded, or as the bytes of one kind with the files
//! that belong to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use heirloom_attest::decode;
use heirloom_model::evidence::{
    Certificate, Evidence, LaunchClaims, PcrValue, ReportData, SnpEvidence, TpmEvidence,
    VtpmEvidence,
};
use heirloom_model::limit::EVIDENCE_BYTES_MAX;
use heirloom_model::measurement::{LaunchedCode, Measurement, MrSigner, TeeKind};
use heirloom_model::wire;
use serde::Deserialize;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::{anchor, file, input};

/// What evidence of some kinds consists of besides its first file.
#[derive(Debug, clap::Args)]
pub(crate) struct Parts {
    /// What made the evidence: sgx, tdx, snp, nitro, tpm or vtpm; needed only where the bytes do
    /// not say it
    #[arg(long, value_name = "KIND", value_parser = kind)]
    kind: Option<TeeKind>,
    /// Certificate of the key that signed, then of its issuers: for snp, tpm and vtpm, DER or PEM;
    /// repeat it for several
    #[arg(long = "certificate", value_name = "FILE")]
    certificates: Vec<PathBuf>,
    /// Signature of the quote (`TPMT_SIGNATURE`): for tpm and vtpm
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// Registers that were quoted, and for tpm what the launcher claims, as TOML
    #[arg(long, value_name = "FILE")]
    quoted: Option<PathBuf>,
    /// What the firmware left in the virtual TPM: for vtpm
    #[arg(long, value_name = "FILE")]
    hcl_report: Option<PathBuf>,
}

/// Reads the name of a kind.
pub(crate) fn kind(text: &str) -> Result<TeeKind, String> {
    TeeKind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
        let known = TeeKind::ALL.map(TeeKind::name).join(", ");
        format!("not one of: {known}")
    })
}

/// What bytes are, where their structure leaves no doubt.
pub(crate) fn recognise(bytes: &[u8]) -> Option<TeeKind> {
    /// A TPM's structure that it made itself (TPM 2.0 part 2, 6.2).
    const TPM_GENERATED: &[u8] = &[0xff, b'T', b'C', b'G'];
    /// An array of four, with a tag or without; the protected header comes first (RFC 9052 §4.2).
    const COSE: [&[u8]; 2] = [&[0xd2, 0x84], &[0x84, 0x44]];
    const SNP_REPORT_BYTES: usize = 1184;
    if bytes.starts_with(TPM_GENERATED) {
        return Some(TeeKind::Tpm);
    }
    if bytes.starts_with(b"HCLA") {
        return Some(TeeKind::Vtpm);
    }
    if COSE.iter().any(|start| bytes.starts_with(start)) {
        return Some(TeeKind::Nitro);
    }
    // A quote has its version in two bytes, then its kind of key; a report has its version in four.
    match *bytes.first_chunk::<8>()? {
        [_, 0, 0, 0, ..] if bytes.len() == SNP_REPORT_BYTES => Some(TeeKind::Snp),
        [3, 0, 2 | 3, 0, ..] | [4 | 5, 0, 2 | 3, 0, 0, 0, 0, 0] => Some(TeeKind::Sgx),
        [4 | 5, 0, 2 | 3, 0, 0x81, 0, 0, 0] => Some(TeeKind::Tdx),
        _ => None,
    }
}

/// An SGX or TDX quote without the zeros that the kernel puts behind it.
pub(crate) fn unpadded(bytes: Vec<u8>) -> Vec<u8> {
    // What is no quote stays as it is, so that its appraisal says what is wrong with it.
    decode::unpadded_quote(&bytes).map(<[u8]>::to_vec).unwrap_or(bytes)
}

impl Parts {
    /// The evidence that these bytes and parts are.
    pub(crate) fn assemble(
        &self,
        bytes: Vec<u8>,
        report_data: &ReportData,
    ) -> Result<Evidence, Diagnostic> {
        if let Ok(encoded) = wire::decode::<Evidence>(&bytes) {
            let is_said = self.kind.is_none_or(|kind| kind == encoded.kind());
            let kind = encoded.kind().name();
            refuse(!is_said, "--kind", kind)?;
            self.refuse_from(["--certificate", "--signature", "--quoted", "--hcl-report"], kind)?;
            return Ok(encoded);
        }
        let Some(kind) = self.kind.or_else(|| recognise(&bytes)) else {
            let message = "the evidence does not say what made it";
            return Err(Diagnostic::new(Code::EvidenceMalformed, message)
                .hint("say it with --kind, if it is evidence"));
        };
        match kind {
            TeeKind::Sgx | TeeKind::Tdx | TeeKind::Nitro => self.refuse_from(
                ["--certificate", "--signature", "--quoted", "--hcl-report"],
                kind.name(),
            )?,
            TeeKind::Snp => {
                self.refuse_from(["--signature", "--quoted", "--hcl-report"], kind.name())?;
            }
            TeeKind::Tpm => self.refuse_from(["--hcl-report"], kind.name())?,
            TeeKind::Vtpm => {}
        }
        match kind {
            TeeKind::Sgx => Ok(Evidence::SgxDcap(unpadded(bytes))),
            TeeKind::Tdx => Ok(Evidence::TdxDcap(unpadded(bytes))),
            TeeKind::Nitro => Ok(Evidence::Nitro(bytes)),
            TeeKind::Snp => {
                let certificates = certificates(&self.certificates)?;
                Ok(Evidence::Snp(SnpEvidence { report: bytes, certificates }))
            }
            TeeKind::Tpm => self.tpm(bytes, *report_data).map(Evidence::Tpm),
            TeeKind::Vtpm => self.vtpm(bytes, *report_data).map(Evidence::Vtpm),
        }
    }

    fn tpm(&self, attest: Vec<u8>, report_data: ReportData) -> Result<TpmEvidence, Diagnostic> {
        let quoted = self.quoted("tpm")?;
        let launch = quoted.launch.as_ref().ok_or_else(|| missing("tpm", "a [launch] table"))?;
        Ok(TpmEvidence {
            attest,
            signature: self.signature("tpm")?,
            certificates: certificates(&self.certificates)?,
            registers: quoted.registers()?,
            launch: launch.claims()?,
            report_data,
        })
    }

    /// The first file is the quote, or what the firmware left if the quote is nowhere.
    fn vtpm(&self, attest: Vec<u8>, report_data: ReportData) -> Result<VtpmEvidence, Diagnostic> {
        let path = self.hcl_report.as_deref().ok_or_else(|| missing("vtpm", "--hcl-report"))?;
        let quoted = self.quoted("vtpm")?;
        if quoted.launch.is_some() {
            let message = "a virtual TPM has no launcher: [launch] means nothing";
            return Err(Diagnostic::new(Code::InputValue, message));
        }
        Ok(VtpmEvidence {
            hcl_report: file::read(path, EVIDENCE_BYTES_MAX)?,
            certificates: certificates(&self.certificates)?,
            attest,
            signature: self.signature("vtpm")?,
            registers: quoted.registers()?,
            report_data,
        })
    }

    fn quoted(&self, kind: &str) -> Result<Quoted, Diagnostic> {
        input::read(self.quoted.as_deref().ok_or_else(|| missing(kind, "--quoted"))?)
    }

    fn signature(&self, kind: &str) -> Result<Vec<u8>, Diagnostic> {
        let path = self.signature.as_deref().ok_or_else(|| missing(kind, "--signature"))?;
        file::read(path, EVIDENCE_BYTES_MAX)
    }

    /// Refuses parts that evidence of a kind does not have: they would mean nothing.
    fn refuse_from<const N: usize>(&self, flags: [&str; N], kind: &str) -> Result<(), Diagnostic> {
        flags.into_iter().try_for_each(|flag| {
            let is_given = match flag {
                "--certificate" => !self.certificates.is_empty(),
                "--signature" => self.signature.is_some(),
                "--quoted" => self.quoted.is_some(),
                _ => self.hcl_report.is_some(),
            };
            refuse(is_given, flag, kind)
        })
    }
}

fn refuse(is_wrong: bool, flag: &str, kind: &str) -> Result<(), Diagnostic> {
    if is_wrong {
        let message = format!("{flag} does not belong to this evidence, which is of {kind}");
        return Err(Diagnostic::new(Code::InputValue, message));
    }
    Ok(())
}

fn missing(kind: &str, part: &str) -> Diagnostic {
    Diagnostic::new(Code::InputMissing, format!("evidence of {kind} needs {part}"))
}

/// The certificates of several files, in their order.
pub(crate) fn certificates(paths: &[PathBuf]) -> Result<Vec<Certificate>, Diagnostic> {
    let mut all = Vec::new();
    for path in paths {
        let found = read_certificates(path)?;
        all.extend(found.into_iter().map(Certificate));
    }
    Ok(all)
}

fn read_certificates(path: &Path) -> Result<Vec<Vec<u8>>, Diagnostic> {
    anchor::certificates(file::read(path, EVIDENCE_BYTES_MAX)?).ok_or_else(|| {
        let message = format!("{} has no certificates in it", path.display());
        Diagnostic::new(Code::InputMalformed, message).hint("give certificates in DER or PEM")
    })
}

/// What a quote covers besides itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Quoted {
    pcr: BTreeMap<String, String>,
    launch: Option<LaunchInput>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LaunchInput {
    measurement: String,
    signer: String,
    product_id: u16,
    isv_svn: u16,
    debug: bool,
    authority: String,
}

impl Quoted {
    fn registers(&self) -> Result<Vec<PcrValue>, Diagnostic> {
        let register = |(index, value): (&String, &String)| {
            let index = input::value::<u8>("pcr", index)?;
            Ok(PcrValue { index, value: input::value(&format!("pcr.{index}"), value)? })
        };
        let found = self.pcr.iter().map(register).collect::<Result<Vec<_>, Diagnostic>>()?;
        input::sorted("pcr", found, |register| register.index)
    }
}

impl LaunchInput {
    fn claims(&self) -> Result<LaunchClaims, Diagnostic> {
        Ok(LaunchClaims {
            measurement: code(&self.measurement)?,
            signer: input::value::<MrSigner>("launch.signer", &self.signer)?,
            product_id: self.product_id,
            isv_svn: self.isv_svn,
            debug: self.debug,
            authority: input::value("launch.authority", &self.authority)?,
        })
    }
}

fn code(text: &str) -> Result<LaunchedCode, Diagnostic> {
    let field = "launch.measurement";
    match input::value(field, text)? {
        Measurement::Tpm(code) => Ok(code),
        other => {
            let message = format!("the field {field} has a bad value");
            let cause = format!("{other} is a measurement of {}, not of tpm", other.kind());
            Err(Diagnostic::new(Code::InputValue, message).cause(cause))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_recognised_only_where_they_leave_no_doubt() {
        let padded = |start: &[u8], length: usize| {
            let mut bytes = start.to_vec();
            bytes.resize(length, 0);
            bytes
        };
        for (start, length, expected) in [
            (&[3, 0, 2, 0][..], 1184, Some(TeeKind::Sgx)),
            (&[4, 0, 2, 0, 0x81], 4000, Some(TeeKind::Tdx)),
            (&[5, 0, 2, 0, 0x81], 4000, Some(TeeKind::Tdx)),
            (&[4, 0, 2, 0], 4000, Some(TeeKind::Sgx)),
            (&[4, 0, 2, 0, 0x82], 4000, None),
            (&[2], 1184, Some(TeeKind::Snp)),
            (&[5], 1184, Some(TeeKind::Snp)),
            (&[5], 1185, None),
            (&[0xd2, 0x84], 4000, Some(TeeKind::Nitro)),
            (&[0x84, 0x44], 4000, Some(TeeKind::Nitro)),
            (&[0xff, b'T', b'C', b'G'], 145, Some(TeeKind::Tpm)),
            (b"HCLA", 2600, Some(TeeKind::Vtpm)),
            (b"HCLB", 2600, None),
            (&[], 0, None),
        ] {
            assert_eq!(recognise(&padded(start, length)), expected, "{start:?} {length}");
        }
    }
}
