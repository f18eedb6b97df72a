//! What a TEE loaded.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

use crate::digest::{ParseHexError, parse_hex, sha256};
use crate::{context, fixed_bytes};

fixed_bytes! {
    /// SGX: digest of an enclave's pages as they were added (SDM volume 3D, 38.4.1.1).
    MrEnclave[32];
    /// SGX: SHA-256 of the modulus of the key that signed the enclave's SIGSTRUCT.
    MrSigner[32];
    /// TDX: digest over everything that a trust domain was built from and loaded.
    TdMeasurement[32];
    /// SEV-SNP: the launch digest (AMD 56860, ATTESTATION REPORT, MEASUREMENT).
    LaunchDigest[48];
    /// Nitro: digest over PCR 0 to 2, which are the image, its kernel and its application.
    ImageMeasurement[32];
    /// TPM: digest of a bundle, as the measured launcher of the machine computed it.
    LaunchedCode[32];
    /// A confidential virtual machine with a virtual TPM: digest over the machine's launch digest and
    /// the PCRs that the policy counts as code.
    VtpmMeasurement[32];
    /// A SHA-384 register: MRTD, RTMR, a Nitro PCR, a key digest.
    Register48[48];
    /// A SHA-256 register: a PCR of a TPM.
    Register32[32];
}

/// Digest of the code that a TEE loaded.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Measurement {
    /// An SGX enclave, by MRENCLAVE. The signer is never enough to hold a key.
    #[n(0)]
    Sgx(#[n(0)] MrEnclave),
    /// A TDX trust domain.
    #[n(1)]
    Tdx(#[n(0)] TdMeasurement),
    /// An SEV-SNP guest.
    #[n(2)]
    Snp(#[n(0)] LaunchDigest),
    /// A Nitro enclave.
    #[n(3)]
    Nitro(#[n(0)] ImageMeasurement),
    /// What a launcher that a TPM measured has launched.
    #[n(4)]
    Tpm(#[n(0)] LaunchedCode),
    /// A confidential virtual machine whose virtual TPM measured what it booted.
    #[n(5)]
    Vtpm(#[n(0)] VtpmMeasurement),
}

/// A kind of TEE: what makes evidence, and how code is measured.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[cbor(index_only)]
pub enum TeeKind {
    /// Intel SGX, or the emulated CPU, which has its semantics and another root.
    #[n(0)]
    Sgx,
    /// Intel TDX.
    #[n(1)]
    Tdx,
    /// AMD SEV-SNP.
    #[n(2)]
    Snp,
    /// AWS Nitro Enclaves.
    #[n(3)]
    Nitro,
    /// A machine with a TPM and a measured launcher.
    #[n(4)]
    Tpm,
    /// A confidential virtual machine with a virtual TPM.
    #[n(5)]
    Vtpm,
}

impl TeeKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Sgx, Self::Tdx, Self::Snp, Self::Nitro, Self::Tpm, Self::Vtpm];

    /// The word that people use, which is the prefix of measurements too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sgx => "sgx",
            Self::Tdx => "tdx",
            Self::Snp => "snp",
            Self::Nitro => "nitro",
            Self::Tpm => "tpm",
            Self::Vtpm => "vtpm",
        }
    }
}

impl fmt::Display for TeeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Measurement {
    /// What measured it.
    pub fn kind(&self) -> TeeKind {
        match self {
            Self::Sgx(_) => TeeKind::Sgx,
            Self::Tdx(_) => TeeKind::Tdx,
            Self::Snp(_) => TeeKind::Snp,
            Self::Nitro(_) => TeeKind::Nitro,
            Self::Tpm(_) => TeeKind::Tpm,
            Self::Vtpm(_) => TeeKind::Vtpm,
        }
    }

    /// The digest's bytes: 32, or 48 for SEV-SNP.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sgx(digest) => digest.as_bytes(),
            Self::Tdx(digest) => digest.as_bytes(),
            Self::Snp(digest) => digest.as_bytes(),
            Self::Nitro(digest) => digest.as_bytes(),
            Self::Tpm(digest) => digest.as_bytes(),
            Self::Vtpm(digest) => digest.as_bytes(),
        }
    }

    /// Whether the digest is all zero, as debug enclaves of some platforms report it.
    pub fn is_zero(&self) -> bool {
        self.as_bytes().iter().all(|byte| *byte == 0)
    }
}

impl TdMeasurement {
    /// Over MRTD, RTMR 0 to 3, MRCONFIGID, MROWNER and MROWNERCONFIG, in this order.
    pub fn of(registers: &[Register48; 8]) -> Self {
        let mut parts: Vec<&[u8]> = vec![context::MEASUREMENT_TDX];
        parts.extend(registers.iter().map(|register| register.as_bytes().as_slice()));
        Self::new(sha256(&parts))
    }
}

impl ImageMeasurement {
    /// Over PCR 0 to 2.
    pub fn of(registers: &[Register48; 3]) -> Self {
        let [image, kernel, application] = registers.each_ref().map(Register48::as_bytes);
        Self::new(sha256(&[context::MEASUREMENT_NITRO, image, kernel, application]))
    }
}

impl VtpmMeasurement {
    /// Over the machine's launch digest, the PCRs that count as a mask (bit n is PCR n), and the
    /// SHA-256 of their values in order.
    pub fn of(launch: &LaunchDigest, selection: u32, values: &Register32) -> Self {
        let selection = selection.to_be_bytes();
        let launch = launch.as_bytes();
        Self::new(sha256(&[context::MEASUREMENT_VTPM, launch, &selection, values.as_bytes()]))
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind(), hex::encode(self.as_bytes()))
    }
}

impl FromStr for Measurement {
    type Err = ParseHexError;

    /// Digits without a prefix are an SGX measurement.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, digits) = TeeKind::ALL
            .into_iter()
            .find_map(|kind| Some((kind, text.strip_prefix(kind.name())?.strip_prefix(':')?)))
            .unwrap_or((TeeKind::Sgx, text));
        let what = "measurement";
        Ok(match kind {
            TeeKind::Sgx => Self::Sgx(MrEnclave::new(parse_hex(what, digits)?)),
            TeeKind::Tdx => Self::Tdx(TdMeasurement::new(parse_hex(what, digits)?)),
            TeeKind::Snp => Self::Snp(LaunchDigest::new(parse_hex(what, digits)?)),
            TeeKind::Nitro => Self::Nitro(ImageMeasurement::new(parse_hex(what, digits)?)),
            TeeKind::Tpm => Self::Tpm(LaunchedCode::new(parse_hex(what, digits)?)),
            TeeKind::Vtpm => Self::Vtpm(VtpmMeasurement::new(parse_hex(what, digits)?)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_reads_what_it_writes_and_no_two_read_alike() {
        let all = [
            Measurement::Sgx(MrEnclave::new([1; 32])),
            Measurement::Tdx(TdMeasurement::new([1; 32])),
            Measurement::Snp(LaunchDigest::new([1; 48])),
            Measurement::Nitro(ImageMeasurement::new([1; 32])),
            Measurement::Tpm(LaunchedCode::new([1; 32])),
            Measurement::Vtpm(VtpmMeasurement::new([1; 32])),
        ];
        for (index, measurement) in all.iter().enumerate() {
            let text = measurement.to_string();
            assert_eq!(text.parse(), Ok(*measurement), "{text}");
            assert!(text.starts_with(TeeKind::ALL[index].name()), "{text}");
            let same = all.iter().filter(|other| other.to_string() == text);
            assert_eq!(same.count(), 1, "{text}");
        }
        assert_eq!("01".repeat(32).parse(), Ok(all[0]));
        assert!("snp:01".parse::<Measurement>().is_err());
        assert!("sev:01".parse::<Measurement>().is_err());
    }
}
