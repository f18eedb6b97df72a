//! How a call is made: deadlines, attempts, tokens, sizes.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::error::{Effect, NodeError, Refusal};
use crate::node::{Node, Side};

/// The largest answer that is taken in one message: a package file.
pub(crate) const MESSAGE_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Attempts of a call that changed nothing. A participant that restarts is back within seconds.
const ATTEMPTS_MAX: u32 = 3;
/// Between them.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(200);
/// The longest token: tokens with many claims have some kilobytes.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Permissions of group and others.
const OTHERS: u32 = 0o077;

/// Which interface of a participant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Port {
    /// That of operators.
    Admin,
    /// That of applications.
    Ledger,
}

/// What generated clients call through.
pub(crate) type Line = InterceptedService<Channel, Bearer>;

/// Puts the token in front of each request.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl Node {
    fn side(&self, port: Port) -> &Side {
        match port {
            Port::Admin => &self.shared.admin,
            Port::Ledger => &self.shared.ledger,
        }
    }

    /// A connection with the token as it is now.
    pub(crate) fn line(&self, port: Port, call: &'static str) -> Result<Line, NodeError> {
        let side = self.side(port);
        let token = side.token.as_deref().map(|path| self.token(path, call)).transpose()?;
        Ok(InterceptedService::new(side.channel.clone(), Bearer(token)))
    }

    fn token(&self, path: &Path, call: &'static str) -> Result<MetadataValue<Ascii>, NodeError> {
        let refused = |why: String| NodeError::Refused {
            node: self.name().to_owned(),
            call,
            cause: Refusal::Permission,
            why,
        };
        let mode = std::fs::metadata(path).map(|found| found.mode() & 0o777);
        let mode = mode.map_err(|error| refused(format!("{}: {error}", path.display())))?;
        if mode & OTHERS != 0 {
            let path = path.display();
            return Err(refused(format!("others may read {path}: its mode is {mode:o}")));
        }
        let bytes = heirloom_store::atomic::read(path, TOKEN_BYTES_MAX)
            .map_err(|error| refused(error.to_string()))?;
        let text = String::from_utf8(bytes).ok();
        let value = text.and_then(|text| format!("Bearer {}", text.trim()).parse().ok());
        // The token itself is never repeated.
        let mut value: MetadataValue<Ascii> =
            value.ok_or_else(|| refused(format!("{} has no token", path.display())))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Carries out something asynchronous on the caller's thread.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        let runtime = self.shared.runtime.as_ref().expect("the runtime ends with the last clone");
        runtime.block_on(work)
    }

    /// A call that changes nothing: tried some times.
    pub(crate) fn read<T, F>(
        &self,
        port: Port,
        call: &'static str,
        ask: impl Fn(Line) -> F,
    ) -> Result<T, NodeError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.some_times(port, call, Effect::Reads, self.shared.deadlines.read, &ask)
    }

    /// A call that changes something: made once, unless it surely changed nothing.
    pub(crate) fn change<T, F>(
        &self,
        port: Port,
        call: &'static str,
        ask: impl Fn(Line) -> F,
    ) -> Result<T, NodeError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.some_times(port, call, Effect::Changes, self.shared.deadlines.change, &ask)
    }

    fn some_times<T, F>(
        &self,
        port: Port,
        call: &'static str,
        effect: Effect,
        time: Duration,
        ask: &impl Fn(Line) -> F,
    ) -> Result<T, NodeError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut attempt = 1;
        loop {
            match self.once(port, call, effect, time, ask) {
                Err(NodeError::Unreachable { .. }) if attempt < ATTEMPTS_MAX => {
                    attempt += 1;
                    self.wait(async { tokio::time::sleep(ATTEMPT_PAUSE).await });
                }
                answer => return answer,
            }
        }
    }

    fn once<T, F>(
        &self,
        port: Port,
        call: &'static str,
        effect: Effect,
        time: Duration,
        ask: &impl Fn(Line) -> F,
    ) -> Result<T, NodeError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let line = self.line(port, call)?;
        let asked = self.wait(async { tokio::time::timeout(time, ask(line)).await });
        let answered = asked.map_err(|_| NodeError::silent(self.name(), call, effect, time))?;
        let answer =
            answered.map_err(|status| NodeError::of(self.name(), call, effect, &status))?;
        Ok(answer.into_inner())
    }

    /// An answer that contradicts itself.
    pub(crate) fn corrupt(&self, call: &'static str, why: impl Into<String>) -> NodeError {
        NodeError::Corrupt { node: self.name().to_owned(), call, why: why.into() }
    }

    /// Reads a name out of an answer.
    pub(crate) fn parse<T>(&self, call: &'static str, text: &str) -> Result<T, NodeError>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        text.parse().map_err(|error: T::Err| self.corrupt(call, error.to_string()))
    }

    /// More of something than anybody has.
    pub(crate) fn bounded(
        &self,
        call: &'static str,
        count: usize,
        limit: usize,
    ) -> Result<(), NodeError> {
        if count > limit {
            return Err(self.corrupt(call, format!("{count} items are more than {limit}")));
        }
        Ok(())
    }
}

/// Calls a generated client: `ask!(Client::method, request)`.
macro_rules! ask {
    ($client:path, $method:ident, $request:expr) => {{
        let request = $request;
        move |line| {
            let request = request.clone();
            async move {
                <$client>::new(line)
                    .max_decoding_message_size(crate::node::call::MESSAGE_BYTES_MAX)
                    .$method(request)
                    .await
            }
        }
    }};
}
pub(crate) use ask;
