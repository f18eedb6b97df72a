//! Answers that were cut or changed on the way: errors, never a panic, never a wrong secret.

use std::collections::BTreeSet;

use heirloom_tpm::capability::Handles;
use heirloom_tpm::client::Tpm;
use heirloom_tpm::counter::{Counter, CounterPublic, Incrementer};
use heirloom_tpm::error::TpmError;
use heirloom_tpm::key::{AttestationKey, EndorsementKind, StorageRoot, endorsement_certificate};
use heirloom_tpm::pcr::Selection;
use heirloom_tpm::policy::{Opening, Policy};

use crate::world::{Approver, Bus, MESSAGE, World, as_booted, command_of, reference, value};

/// Most of what the client does. A key makes the same secret each time.
fn everything(tpm: &Tpm, approver: &Approver, policy: &Policy) -> Result<(), TpmError> {
    tpm.random(&mut [0; 8])?;
    tpm.description()?;
    tpm.handles(Handles::Permanent)?;
    drop(StorageRoot::transient(tpm)?);
    let root = StorageRoot::open(tpm)?;
    {
        let key = AttestationKey::create(&root, value())?;
        key.quote(&[1; 32], Selection::boot())?;
    }
    endorsement_certificate(tpm, EndorsementKind::Rsa2048)?;
    let public = counter();
    let counter = Counter::define(&root, public, None)?;
    counter.increment(&root, None)?;
    counter.read(&root)?;
    counter.remove()?;
    let object = Policy::approved(approver.authority(), reference(), Vec::new()).unwrap();
    let made = root.make_mac_key(&object.digest())?;
    let approval = approver.approve(policy.clone(), &reference());
    let opening = Opening::Approved { policy: &object, approval: &approval };
    let [one, other] = [root.mac(&made, opening, MESSAGE)?, root.mac(&made, opening, MESSAGE)?];
    assert!(one.same_as(&other), "a wrong secret was given out");
    Ok(())
}

fn counter() -> CounterPublic {
    CounterPublic::new(0x0180_4801, Incrementer::Owner).unwrap()
}

/// Runs everything while the answers to one command are meddled with, then cleans up.
fn meddled(
    (tpm, bus): (&Tpm, &Bus),
    (approver, policy): (&Approver, &Policy),
    command: u32,
    meddle: impl Fn(&mut Vec<u8>) + Send + 'static,
) -> Result<(), TpmError> {
    bus.meddle(move |sent, response| {
        if command_of(sent) == command {
            meddle(response);
        }
    });
    let result = everything(tpm, approver, policy);
    bus.behave();
    tpm.flush_leftovers().unwrap();
    let root = StorageRoot::open(tpm).unwrap();
    Counter::define(&root, counter(), None).unwrap().remove().unwrap();
    result
}

#[test]
fn an_answer_that_was_cut_or_changed_is_an_error_and_no_panic() {
    let Some(world) = World::new() else { return };
    let (tpm, bus) = world.overheard();
    let (approver, policy) = (Approver::new(), as_booted(&tpm));
    everything(&tpm, &approver, &policy).unwrap();
    // What is made once was made.
    bus.messages.lock().unwrap().clear();
    everything(&tpm, &approver, &policy).unwrap();
    let sent: BTreeSet<u32> = {
        let messages = bus.messages.lock().unwrap();
        messages.chunks(2).map(|exchange| command_of(&exchange[0])).collect()
    };
    assert!(sent.len() > 15, "{sent:x?}");
    // FlushContext answers nothing that anybody reads.
    for command in sent.into_iter().filter(|command| *command != 0x165) {
        for length in [0, 5, 9, 10, 11, 14, 20, 40] {
            let cut = move |response: &mut Vec<u8>| {
                let shorter = length.min(response.len().saturating_sub(1));
                response.truncate(shorter);
            };
            let result = meddled((&tpm, &bus), (&approver, &policy), command, cut);
            assert!(result.is_err(), "{command:x} cut to {length} bytes");
        }
        for at in [10, 11, 13, 15, 16, 17, 19, 23, 31] {
            let change = move |response: &mut Vec<u8>| {
                if let Some(byte) = response.get_mut(at) {
                    *byte ^= 0x81;
                }
            };
            // What was changed may not matter; it must not panic or give out a wrong secret.
            drop(meddled((&tpm, &bus), (&approver, &policy), command, change));
        }
    }
    everything(&tpm, &approver, &policy).unwrap();
}
