//! A change of a service, told to people.

use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, Plan};

/// The words for what runs as a service, by its code.
fn code(plan: &Plan, measurement: &Measurement) -> &'static str {
    match &plan.service {
        Some(change) if !change.changes_code() => "service",
        Some(change) if *measurement == change.to.measurement => "new service",
        Some(_) => "old service",
        None => "service",
    }
}

/// What a step does to the service of its node.
pub(super) fn action(plan: &Plan, action: &Action) -> String {
    let service = |at: &heirloom_model::plan::Placement| code(plan, &at.measurement);
    match action {
        Action::Equip(at) => {
            format!("stage the {} and try it once without data", service(at))
        }
        Action::Muster(at) => format!("the {} states that it runs as agreed", service(at)),
        Action::Fence(at) => {
            format!("the {} lets no client in any more; what runs ends", service(at))
        }
        Action::Freeze(at) => {
            format!("the {} promises to append no block, and states its tip", service(at))
        }
        Action::Halt(at) => format!("end the {}, and see that its database is free", service(at)),
        Action::Snapshot => "copy database and distribution state, and read the copy".to_owned(),
        Action::Migrate => "put a migrated copy in place of the database, which stays".to_owned(),
        Action::Revert => "put the database that was there before in its place again".to_owned(),
        Action::Deploy { expect, install } if expect.measurement == install.measurement => {
            "install the release in place of the one with the same code".to_owned()
        }
        Action::Deploy { expect, install } => {
            format!("install the {} in place of the {}", service(install), service(expect))
        }
        Action::Launch(at) => {
            format!("start the {} behind the fence, at the frozen tip", service(at))
        }
        Action::Join(at) => {
            format!("the {} states that every other node is its attested peer", service(at))
        }
        Action::Exercise(at) => {
            format!("try the {} through the side door", service(at))
        }
        Action::Commit => "commit: from here on nobody calls the flag day off".to_owned(),
        Action::Open(at) => format!("the {} lets clients in", service(at)),
        Action::Watch(at) => format!("watch the {} while clients use it", service(at)),
        _ => action.name().to_owned(),
    }
}
