//! A root as people write it: the one that takes the place of the present one.

use std::path::{Path, PathBuf};

use heirloom_model::counter::Serial;
use heirloom_model::digest::NetworkId;
use heirloom_model::root::{Role, RoleKeys, Root};
use serde::Deserialize;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::{anchor, input};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RootInput {
    serial: u64,
    not_after: String,
    /// `KIND:FILE` or `FILE`, beside this one.
    anchors: Vec<PathBuf>,
    role: Vec<RoleInput>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleInput {
    role: String,
    threshold: u32,
    keys: Vec<String>,
}

/// Reads a root that succeeds another one.
pub(crate) fn parse(path: &Path, network: NetworkId) -> Result<Root, Diagnostic> {
    let found: RootInput = input::read(path)?;
    let beside = path.parent().unwrap_or(Path::new(""));
    let roles = found.role.iter().map(role).collect::<Result<Vec<RoleKeys>, _>>()?;
    let roles = input::sorted("role", roles, |keys| keys.role)?;
    if let Some(missing) = Role::ALL.into_iter().find(|role| !names(&roles, *role)) {
        let message = format!("the root has no {} role", missing.name());
        return Err(Diagnostic::new(Code::InputMissing, message)
            .hint("write every role down; `heirloom root show` prints the present ones"));
    }
    Ok(Root {
        network: Some(network),
        serial: Serial(found.serial),
        roles,
        anchors: anchor::read_all(beside, &found.anchors)?,
        not_after: input::time("not_after", &found.not_after)?,
    })
}

fn names(roles: &[RoleKeys], role: Role) -> bool {
    roles.iter().any(|keys| keys.role == role)
}

fn role(found: &RoleInput) -> Result<RoleKeys, Diagnostic> {
    let role = Role::ALL.into_iter().find(|role| role.name() == found.role);
    let role = role.ok_or_else(|| {
        let known = Role::ALL.map(Role::name).join(", ");
        Diagnostic::new(Code::InputValue, "the field role.role has a bad value")
            .cause(format!("{:?} is not one of: {known}", found.role))
    })?;
    let keys = input::values("role.keys", &found.keys)?;
    Ok(RoleKeys { role, keys, threshold: found.threshold })
}
