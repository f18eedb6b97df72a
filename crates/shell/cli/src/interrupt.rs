//! Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGINT;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;

/// The first Ctrl-C sets the flag, the second one ends the process at once.
pub(crate) fn flag() -> Result<Arc<AtomicBool>, Diagnostic> {
    let pressed = Arc::new(AtomicBool::new(false));
    let failed = |error: std::io::Error| {
        Diagnostic::new(Code::FileFailed, "Ctrl-C cannot be handled").because(&error)
    };
    let code = i32::from(Exit::Interrupted.code());
    // In this order: a second signal finds the flag that the first one set.
    signal_hook::flag::register_conditional_shutdown(SIGINT, code, Arc::clone(&pressed))
        .map_err(failed)?;
    signal_hook::flag::register(SIGINT, Arc::clone(&pressed)).map_err(failed)?;
    Ok(pressed)
}
