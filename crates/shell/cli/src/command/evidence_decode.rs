//! `heirloom evidence decode`: what evidence says, and what of it could not be checked.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use heirloom_attest::decode;
use heirloom_attest::oasis::SignedInitResponse;
use heirloom_attest::tpm::Quote;
use heirloom_model::digest::Checksum;
use heirloom_model::evidence::{Evidence, ReportData, SnpEvidence, VtpmEvidence};
use heirloom_model::limit::EVIDENCE_BYTES_MAX;
use heirloom_model::measurement::TeeKind;
use heirloom_model::signature::PublicKey;
use heirloom_model::wire;
use serde_json::{Value, json};

use crate::code::Code;
use crate::command::evidence_input;
use crate::diagnostic::Diagnostic;
use crate::output::Report;
use crate::{file, time};

/// What to decode.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The value itself in base64 or hexadecimal, a file, or `-` for standard input
    input: String,
    /// The attested key (RAK) that must have signed, in base64 or hexadecimal
    #[arg(long, value_name = "KEY")]
    rak: Option<String>,
    /// What made the evidence: sgx, tdx, snp, nitro, tpm or vtpm; needed only where the bytes do
    /// not say it
    #[arg(long, value_name = "KIND", value_parser = evidence_input::kind)]
    kind: Option<TeeKind>,
}

/// A `control status` document of a node with many runtimes.
const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;
/// Runtimes of one node that are read.
const RUNTIMES_MAX: usize = 256;

/// Decodes.
pub(crate) fn run(args: &Args) -> Result<Report, Diagnostic> {
    let rak = args.rak.as_deref().map(key).transpose()?;
    let bytes = input(&args.input)?;
    if let Some(kind) = args.kind {
        return evidence(bytes, Some(kind)).map_err(|cause| malformed().cause(cause));
    }
    if let Ok(document) = serde_json::from_slice::<Value>(&bytes)
        && document.is_object()
    {
        return status(&document, rak);
    }
    match SignedInitResponse::decode(&bytes) {
        Ok(signed) => {
            let key = rak.map(|rak| (rak, GIVEN));
            Ok(Report::fields("evidence.extra-info", extra_info(&signed, key)?))
        }
        Err(error) => evidence(bytes, None)
            .map_err(|cause| malformed().cause(format!("as extra_info: {error}")).cause(cause)),
    }
}

/// The bytes: from standard input, from a file, or written out on the command line. Text in a
/// file may be base64 or hexadecimal too.
fn input(given: &str) -> Result<Vec<u8>, Diagnostic> {
    let bytes = if given == "-" {
        file::read(Path::new("/dev/stdin"), DOCUMENT_BYTES_MAX)?
    } else if Path::new(given).exists() {
        file::read(&PathBuf::from(given), DOCUMENT_BYTES_MAX)?
    } else {
        return text(given).ok_or_else(|| {
            let message = "the input is neither a file, nor base64, nor hexadecimal";
            Diagnostic::new(Code::EvidenceMalformed, message)
        });
    };
    let decoded = std::str::from_utf8(&bytes).ok().and_then(text);
    Ok(decoded.unwrap_or(bytes))
}

/// Bytes in hexadecimal or base64. Hexadecimal first: its digits are base64 digits too.
fn text(given: &str) -> Option<Vec<u8>> {
    let given = given.trim().trim_matches('"');
    if given.is_empty() {
        return None;
    }
    hex::decode(given).ok().or_else(|| STANDARD.decode(given).ok())
}

fn key(given: &str) -> Result<PublicKey, Diagnostic> {
    let bytes = text(given).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(PublicKey::new).ok_or_else(|| {
        let message = "the key is not 32 bytes in base64 or hexadecimal";
        Diagnostic::new(Code::InputValue, message)
    })
}

/// What a good signature does not say, if the key was given by whoever asks.
const GIVEN: &str = "whether the key belongs to an enclave is for its evidence to show";
/// The same, if the key stands beside the signature.
const BESIDE: &str = "the key stands in the same document: that it belongs to an enclave is for \
                      its evidence to show";

/// What a signed init response says, checked with a key if there is one.
fn extra_info(
    signed: &SignedInitResponse,
    key: Option<(PublicKey, &str)>,
) -> Result<Value, Diagnostic> {
    let verified = match key {
        None => json!({
            "checked": false,
            "why": "the signature cannot be checked without the attested key (RAK)",
        }),
        Some((rak, why)) => {
            signed.verify(&rak).map_err(|error| {
                let message = "the init response is not what this key signed";
                Diagnostic::new(Code::EvidenceSignature, message).because(&error)
            })?;
            json!({
                "checked": true,
                "by": rak.to_string(),
                "why": why,
            })
        }
    };
    let response = &signed.response;
    let show = |sum: Option<Checksum>| sum.map(|sum| sum.to_string());
    let mut json = json!({
        "checksum": show(response.checksum),
        "is_secure": response.is_secure,
        "policy_checksum": show(response.policy_checksum),
        "signature": signed.signature.to_string(),
        "signature_check": verified,
    });
    if let Some(fields) = json.as_object_mut() {
        let optional = [
            ("next_checksum", show(response.next_checksum)),
            ("rsk", response.rsk.map(|key| key.to_string())),
            ("next_rsk", response.next_rsk.map(|key| key.to_string())),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value.into());
            }
        }
    }
    Ok(json)
}

fn malformed() -> Diagnostic {
    Diagnostic::new(Code::EvidenceMalformed, "the input is no evidence that this release reads")
}

/// What evidence says, or one of its parts; otherwise why it says nothing.
fn evidence(bytes: Vec<u8>, kind: Option<TeeKind>) -> Result<Report, String> {
    if bytes.len() > EVIDENCE_BYTES_MAX {
        return Err(format!("the input has more than {EVIDENCE_BYTES_MAX} bytes"));
    }
    let encoded = wire::decode(&bytes).ok().filter(|_| kind.is_none());
    if let Some(encoded) = encoded {
        return claims(&encoded);
    }
    let found = kind.or_else(|| evidence_input::recognise(&bytes));
    let found = found.ok_or("as evidence: the bytes do not say what made them; `--kind` may")?;
    match found {
        TeeKind::Sgx => claims(&Evidence::SgxDcap(evidence_input::unpadded(bytes))),
        TeeKind::Tdx => claims(&Evidence::TdxDcap(evidence_input::unpadded(bytes))),
        TeeKind::Snp => {
            claims(&Evidence::Snp(SnpEvidence { report: bytes, certificates: Vec::new() }))
        }
        TeeKind::Nitro => claims(&Evidence::Nitro(bytes)),
        TeeKind::Tpm => quote(&bytes),
        TeeKind::Vtpm => claims(&Evidence::Vtpm(VtpmEvidence {
            hcl_report: bytes,
            certificates: Vec::new(),
            attest: Vec::new(),
            signature: Vec::new(),
            registers: Vec::new(),
            // The quote carries it, and there is none.
            report_data: ReportData::new([0; 64]),
        })),
    }
}

/// What the quote of a TPM says by itself: the registers that it covers stand beside it.
fn quote(bytes: &[u8]) -> Result<Report, String> {
    let quote = Quote::parse(bytes).map_err(|error| format!("as a TPM's quote: {error}"))?;
    let selection = quote.selection();
    let registers: Vec<u32> = (0..u32::BITS)
        .filter(|index| selection.checked_shr(*index).unwrap_or(0) & 1 == 1)
        .collect();
    let json = json!({
        "kind": TeeKind::Tpm.name(),
        "registers": registers,
        "qualifying_data": hex::encode(quote.qualifying()),
        "signature_check": unchecked(),
    });
    Ok(Report::fields("evidence.tpm-quote", json))
}

/// What decoding does not do.
fn unchecked() -> Value {
    json!({
        "checked": false,
        "why": "nothing here is verified: `heirloom evidence appraise` does",
    })
}

/// What whole evidence says.
fn claims(evidence: &Evidence) -> Result<Report, String> {
    let claims = decode::unverified(evidence)
        .map_err(|error| format!("as evidence of {}: {error}", evidence.kind()))?;
    let certified = claims
        .certified
        .map(|(since, until)| json!({ "since": time::show(since), "until": time::show(until) }));
    let quoted = claims.quoted.as_ref();
    let fmspc = quoted.and_then(|quoted| quoted.fmspc);
    let facts: serde_json::Map<_, _> = claims
        .facts
        .iter()
        .map(|(name, text)| ((*name).to_owned(), text.as_str().into()))
        .collect();
    let json = json!({
        "kind": claims.kind.name(),
        "measurement": claims.measurement.map(|measurement| measurement.to_string()),
        "signer": claims.signer.map(|signer| signer.to_string()),
        "product_id": claims.product_id,
        "security_version": claims.security_version.map(|version| version.0),
        "debug": claims.debug,
        "attributes": quoted.map(|quoted| hex::encode(quoted.attributes)),
        "cpu_svn": quoted.map(|quoted| hex::encode(quoted.tcb_svn)),
        "report_data": claims.report_data.map(|data| data.to_string()),
        "quoting_signer": quoted.map(|quoted| quoted.quoting_signer.to_string()),
        "quoting_security_version": quoted.map(|quoted| quoted.quoting_security_version.0),
        "fmspc": fmspc.map(hex::encode_upper),
        "facts": facts,
        "platform": claims.platform.map(|platform| platform.to_string()),
        "certified": certified,
        "denied": claims.denied.map(|error| error.to_string()),
        "signature_check": unchecked(),
    });
    Ok(Report::fields("evidence.quote", json))
}

/// What a whole `control status` document says.
fn status(document: &Value, rak: Option<PublicKey>) -> Result<Report, Diagnostic> {
    let runtimes = document.pointer("/registration/descriptor/runtimes").and_then(Value::as_array);
    let manager = document.get("keymanager");
    if runtimes.is_none() && manager.is_none() {
        let message = "the document is not a `control status`";
        return Err(Diagnostic::new(Code::EvidenceMalformed, message)
            .cause("it has neither keymanager nor registration.descriptor.runtimes"));
    }
    let mut shown = Vec::new();
    for runtime in runtimes.into_iter().flatten().take(RUNTIMES_MAX) {
        shown.push(self::runtime(runtime, rak)?);
    }
    let manager = manager.map(key_manager);
    let json = json!({ "keymanager": manager, "runtimes": shown });
    Ok(Report::fields("evidence.control-status", json))
}

/// One registered runtime. Its own RAK stands beside its `extra_info` in the descriptor; that node
/// and evidence belong together is not checked here.
fn runtime(runtime: &Value, rak: Option<PublicKey>) -> Result<Value, Diagnostic> {
    let id = runtime.get("id").cloned().unwrap_or_default();
    let Some(value) = runtime.get("extra_info").and_then(Value::as_str) else {
        return Ok(json!({ "id": id, "extra_info": Value::Null }));
    };
    let malformed = || {
        let message = format!("the extra_info of runtime {id} cannot be decoded");
        Diagnostic::new(Code::EvidenceMalformed, message)
    };
    let bytes = STANDARD.decode(value).map_err(|error| malformed().because(&error))?;
    let signed = SignedInitResponse::decode(&bytes).map_err(|error| malformed().because(&error))?;
    let own = runtime.pointer("/capabilities/tee/rak").and_then(Value::as_str);
    let own = own.and_then(|own| key(own).ok()).map(|own| (own, BESIDE));
    let known = rak.map(|rak| (rak, GIVEN)).or(own);
    Ok(json!({ "id": id, "extra_info": extra_info(&signed, known)? }))
}

/// The fields that all three shapes have, wherever they stand.
fn key_manager(found: &Value) -> Value {
    let (shape, worker, consensus) = if found.get("secrets").is_some() {
        ("24.0 and later", found.pointer("/secrets/worker"), found.pointer("/secrets/status"))
    } else if found.get("worker").is_some() {
        ("23.0", found.get("worker"), found.get("global"))
    } else {
        ("22.2 and earlier", Some(found), None)
    };
    let field = |name: &str| {
        worker.and_then(|worker| worker.get(name)).or_else(|| found.get(name)).cloned()
    };
    let consensus = |name: &str| consensus.and_then(|status| status.get(name));
    let checksum = consensus("checksum").and_then(Value::as_str);
    let checksum = checksum.and_then(|text| STANDARD.decode(text).ok()).map(hex::encode);
    json!({
        "shape": shape,
        "status": field("status"),
        "may_generate": field("may_generate"),
        "runtime_id": field("runtime_id"),
        "client_runtimes": field("client_runtimes"),
        "access_list": field("access_list"),
        "private_peers": field("private_peers"),
        "generation": consensus("generation"),
        "network_checksum": checksum,
        "note": "ready does not mean that the node holds the secrets: compare the checksums",
    })
}
