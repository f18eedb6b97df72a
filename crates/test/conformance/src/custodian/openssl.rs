//! The `openssl` program as a second opinion.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use heirloom_model::secret::SecretBytes;
use heirloom_participant::custodian::key::{Algorithm, KeyScheme, PrivateKey};
use tempfile::TempDir;

/// Files for one question.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("a file is written");
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn openssl(words: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args(words);
    command
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("openssl starts: `cargo xtask setup` installs it");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {words}");
    output.stdout
}

/// Fails if the DER is no public key.
pub(super) fn read_public(der: &[u8]) {
    let files = Files::new();
    let key = files.put("public", der);
    run(openssl(&["pkey", "-pubin", "-inform", "DER", "-noout", "-in"]).arg(key));
}

/// Whether a signature verifies.
pub(super) fn verifies(
    algorithm: Algorithm,
    public: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    let files = Files::new();
    let mut command = openssl(&["pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-rawin"]);
    match algorithm {
        Algorithm::EcdsaSha256 => drop(command.args(["-digest", "sha256"])),
        Algorithm::EcdsaSha384 => drop(command.args(["-digest", "sha384"])),
        Algorithm::Ed25519 | Algorithm::RsaOaepSha256 => {}
    }
    command.arg("-inkey").arg(files.put("public", public));
    command.arg("-in").arg(files.put("message", message));
    command.arg("-sigfile").arg(files.put("signature", signature));
    command.output().expect("openssl starts").status.success()
}

/// A ciphertext of OAEP with SHA-256.
pub(super) fn encrypt(public: &[u8], message: &[u8]) -> Vec<u8> {
    let files = Files::new();
    let mut command = openssl(&["pkeyutl", "-encrypt", "-pubin", "-keyform", "DER"]);
    for option in ["rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256"] {
        command.args(["-pkeyopt", option]);
    }
    command.arg("-inkey").arg(files.put("public", public));
    run(command.arg("-in").arg(files.put("message", message)))
}

/// A key pair: the private half as PKCS#8, the public one as `SubjectPublicKeyInfo`.
pub(super) fn generate(scheme: KeyScheme) -> (PrivateKey, Vec<u8>) {
    let files = Files::new();
    let path = files.path("private");
    let curve = |name: &str| format!("ec_paramgen_curve:{name}");
    let mut command = openssl(&["genpkey", "-outform", "DER", "-out"]);
    command.arg(&path);
    match scheme {
        KeyScheme::Ed25519 => command.args(["-algorithm", "ED25519"]),
        KeyScheme::P256 => command.args(["-algorithm", "EC", "-pkeyopt", &curve("P-256")]),
        KeyScheme::P384 => command.args(["-algorithm", "EC", "-pkeyopt", &curve("P-384")]),
        KeyScheme::Secp256k1 => command.args(["-algorithm", "EC", "-pkeyopt", &curve("secp256k1")]),
        KeyScheme::Rsa2048 => {
            command.args(["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
        }
        KeyScheme::MlDsa65 | KeyScheme::EciesP256 => panic!("{scheme} stands in the table only"),
    };
    run(&mut command);
    // Curves are written in an older form otherwise, which no custodian takes.
    let mut convert = openssl(&["pkcs8", "-topk8", "-nocrypt", "-inform", "DER"]);
    let pkcs8 = run(convert.args(["-outform", "DER", "-in"]).arg(&path));
    let public = run(public_of(&path).args(["-pubout", "-outform", "DER"]));
    (PrivateKey::from_pkcs8(SecretBytes::new(pkcs8)), public)
}

fn public_of(path: &Path) -> Command {
    let mut command = openssl(&["pkey", "-inform", "DER", "-in"]);
    command.arg(path);
    command
}
