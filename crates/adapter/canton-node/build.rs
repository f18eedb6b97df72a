//! Generates the clients and servers of the interfaces under `proto/`.

use std::path::Path;

/// Each folder is one root: folders describe the same packages differently.
const ROOTS: &[(&str, &[&str])] = &[
    (
        "current",
        &[
            "crypto.proto",
            "health.proto",
            "ledger.proto",
            "ledger_admin.proto",
            "participant.proto",
            "protocol.proto",
            "sequencer.proto",
            "topology_admin.proto",
            "value.proto",
            "vault.proto",
        ],
    ),
    ("older", &["participant.proto"]),
    ("slim", &["state.proto"]),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    for (root, files) in ROOTS {
        let folder = Path::new("proto").join(root);
        let target = Path::new(&out).join(root);
        std::fs::create_dir_all(&target)?;
        let files: Vec<_> = files.iter().map(|file| folder.join(file)).collect();
        tonic_prost_build::configure()
            .out_dir(&target)
            .include_file("roots.rs")
            .emit_rerun_if_changed(true)
            .codec_path("crate::wire::codec::MarkingCodec")
            .compile_protos(&files, &[folder])?;
    }
    Ok(())
}
