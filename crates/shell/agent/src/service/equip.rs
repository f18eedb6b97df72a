//! New code of the service: fetched, measured, and tried once without data and without peers.

use std::time::Instant;

use heirloom_model::domain::PlanStep;
use heirloom_model::measurement::Measurement;
use heirloom_model::release::Release;
use heirloom_model::service::{Admission, ServiceRequest};
use heirloom_registry::network::NetworkState;
use heirloom_upgrade::port::DriverError;

use super::control;
use super::node::{LOOK_AGAIN, Node, PATIENCE};
use super::process::Place;
use super::state::{Desired, Distribution, Promise, Wanted};
use crate::driver::{self, bundle};
use crate::instance::kind_of;

impl Node {
    /// Stages a release and tries its code. Returns the standing that it made.
    pub(crate) fn equip(
        &mut self,
        release: &Release,
        code: &Measurement,
        step: PlanStep,
    ) -> Result<Vec<u8>, DriverError> {
        if !self.bundles.is_staged(code) {
            let (directory, free) = (&self.setup.directory, self.setup.free_bytes_min);
            driver::check_space(&self.bundles, directory, free, release, code)?;
        }
        driver::fetched(&self.downloads, release, code)?;
        self.expect_ours(&self.manifest(code)?)?;
        self.ensure_trial(code)?;
        let standing = self.tried(step)?;
        self.end_trial(None)?;
        Ok(standing)
    }

    /// One process in the place of trials, of this code.
    fn ensure_trial(&mut self, code: &Measurement) -> Result<(), DriverError> {
        self.end_trial(Some(code))?;
        if !self.processes.running(Place::Trial)?.is_empty() {
            return Ok(());
        }
        if let Some(started) = self.trial.take()
            && let Some(error) = self.processes.why_gone(&started)?
        {
            return Err(error);
        }
        let mut arguments = self.arguments(Place::Trial, code)?;
        arguments.push("--try".to_owned());
        let bundle = self.bundles.path(code);
        self.trial = Some(self.processes.start(Place::Trial, code, &bundle, arguments)?);
        Ok(())
    }

    /// What the code on trial says of itself. Unknown until it does.
    fn tried(&mut self, step: PlanStep) -> Result<Vec<u8>, DriverError> {
        let socket = self.processes.socket(Place::Trial);
        let until = Instant::now() + PATIENCE;
        loop {
            match control::statement(&socket, &ServiceRequest::State { step }) {
                Err(DriverError::Unknown(_)) if Instant::now() < until => {}
                found => return found,
            }
            if self.processes.running(Place::Trial)?.is_empty() {
                let why = self.trial.take().map(|started| self.processes.why_gone(&started));
                let why = why.transpose()?.flatten();
                let gone = || DriverError::Unknown("the code on trial is gone".to_owned());
                return Err(why.unwrap_or_else(gone));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Ends every trial, or every one of other code.
    fn end_trial(&mut self, except: Option<&Measurement>) -> Result<(), DriverError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let processes = self.processes.running(Place::Trial)?;
            let left = processes.iter().find(|found| Some(&found.measurement) != except);
            let Some(left) = left else { break };
            self.processes.end(Place::Trial, left.instance)?;
            if Instant::now() > until {
                return Err(DriverError::Unknown("the code on trial ends".to_owned()));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        if except.is_none() {
            self.trial = None;
        }
        Ok(())
    }

    /// Installs the bundle of the configuration, if nothing was ever installed and the policy in
    /// force names it. Returns whether it did.
    pub(crate) fn install_first(&mut self, state: &NetworkState) -> Result<bool, DriverError> {
        let Some(source) = self.setup.config.bundle.clone() else { return Ok(false) };
        if self.state.now().installed.is_some() {
            return Ok(false);
        }
        // A database may have been prepared; whoever has voted is not new.
        if self.setup.directory.join("votes").exists() {
            return Err(DriverError::Refused(
                "the service has voted, but there is no record of what is installed: this is not a \
                 new node"
                    .to_owned(),
            ));
        }
        let code = if let Some(code) = self.first {
            code
        } else {
            let kind = kind_of(&self.processes.platform)?;
            self.bundles.stage_first(&source, kind).map_err(bundle)?
        };
        self.first = Some(code);
        let domain = self.expect_ours(&self.manifest(&code)?)?;
        let Some(policy) = state.policy(&domain) else {
            return Err(DriverError::Unknown(format!("domain {domain} has no policy yet")));
        };
        let ours = &self.setup.config.application;
        let is_named = |rule: &heirloom_model::policy::ApplicationRule| {
            rule.application == *ours && rule.measurement == code
        };
        if !policy.applications.iter().any(is_named) {
            return Err(DriverError::Refused(format!(
                "the policy in force does not name {code} for {ours}"
            )));
        }
        self.tell(Desired {
            installed: Some(code),
            wanted: Wanted::Running { code, expected: None },
            admission: Admission::Open,
            promise: Promise::Absent,
            distribution: Distribution::Running,
            exercised: Vec::new(),
        })?;
        Ok(true)
    }
}
