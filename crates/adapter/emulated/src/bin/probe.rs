//! A measured process for tests.

fn main() -> std::process::ExitCode {
    heirloom_launcher::probe::run()
}
